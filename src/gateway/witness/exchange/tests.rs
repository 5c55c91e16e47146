//! Which exchanges leave a connection fit for the next, however their bytes are cut.

use super::*;

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What of an answer is passed on, and whether the connection is sound afterwards.
fn exchange(asked: &str, answer: &str, step: usize) -> Result<(String, bool), AnswerFault> {
    let (mut exchange, mut passed) = (Exchange::default(), Vec::new());
    asked.as_bytes().chunks(step).for_each(|part| exchange.went(part));
    for part in answer.as_bytes().chunks(step) {
        let used = exchange.came(part)?;
        passed.extend_from_slice(part.get(..used).unwrap());
    }
    Ok((String::from_utf8(passed).unwrap(), exchange.leaves_it_sound()))
}

#[test]
fn a_connection_is_sound_after_a_whole_request_and_a_whole_answer_and_nothing_else() {
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    let chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    for (asked, answer, sound) in [
        (GET.to_owned(), OK.to_owned(), true),
        (GET.to_owned(), chunks.to_owned(), true),
        (GET.to_owned(), format!("HTTP/1.1 103 X\r\n\r\n{OK}"), true),
        (format!("{post}abc"), OK.to_owned(), true),
        (format!("{chunked}3\r\nabc\r\n0\r\n\r\n"), OK.to_owned(), true),
        (GET.replace("GET", "HEAD"), OK.replace("ok", ""), true),
        // An answer before the request was whole.
        (format!("{post}ab"), OK.to_owned(), false),
        (format!("{chunked}3\r\nabc\r\n"), OK.to_owned(), false),
        (GET.to_owned(), OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"), false),
        (GET.to_owned(), "HTTP/1.1 200 OK\r\n\r\nok".to_owned(), false),
        (GET.to_owned(), OK.replace("ok", "o"), false),
    ] {
        for step in 1..answer.len() {
            let found = exchange(&asked, &answer, step);
            assert_eq!(found, Ok((answer.clone(), sound)), "{asked:?} {answer:?} by {step}");
        }
    }
}

#[test]
fn what_follows_an_answer_is_not_passed_on() {
    for (asked, answer) in [
        (GET.to_owned(), OK.to_owned()),
        (GET.replace("GET", "HEAD"), OK.replace("ok", "")),
        (GET.to_owned(), "HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
    ] {
        let all = format!("{answer}{OK}");
        assert_eq!(exchange(&asked, &all, all.len()), Ok((answer, false)), "{all:?}");
    }
}

#[test]
fn interim_answers_without_end_are_malformed() {
    let all = "HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM_MAX + 1);
    let fault = AnswerFault::in_head(What::TooManyInterims);
    assert_eq!(exchange(GET, &all, all.len()), Err(fault));
    assert_eq!(exchange(GET, &all, 7), Err(fault));
}
