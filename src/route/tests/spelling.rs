//! Spellings: what a web server reads as one path is one path here, or none.

use super::*;

/// A path as a lax reader of Windows would have it, whoever of them is the laxest: all escapes
/// undone, however often they were made, one kind of slash, no dots, no streams and no parameters,
/// and nothing that names in NTFS or sessions in ASP.NET do not have.
fn as_iis_reads(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let mut text = path.as_bytes().to_vec();
    loop {
        let once = unescaped(&text);
        if once == text {
            break;
        }
        text = once;
    }
    let text: String = String::from_utf8_lossy(&text).chars().map(best_fit).collect();
    let text = text.to_ascii_lowercase().replace('\\', "/");
    let ends = text.ends_with('/');
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        let segment = match segment.starts_with('(') && segment.get(2..3) == Some("(") {
            true => segment.split_once("))").map_or("", |(_, rest)| rest),
            false => segment,
        };
        let segment = segment.split([':', ';']).next().unwrap_or_default();
        match segment.trim_end_matches(['.', ' ']) {
            "" if segment == ".." => drop(segments.pop()),
            "" => {}
            name => segments.push(name),
        }
    }
    let mut read = segments.iter().map(|segment| format!("/{segment}")).collect::<String>();
    if ends || read.is_empty() {
        read.push('/');
    }
    read
}

/// One round of `%2f` and `%u002f`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let hex = |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((first, after)) = rest.split_first() {
        let wide = rest.strip_prefix(b"%u").and_then(|after| hex(after.get(..4)?));
        let narrow = rest.strip_prefix(b"%").and_then(|after| hex(after.get(..2)?));
        match (wide.and_then(char::from_u32), narrow) {
            (Some(wide), _) => {
                out.extend_from_slice(wide.to_string().as_bytes());
                rest = &rest[6..];
            }
            (None, Some(narrow)) => {
                out.push(narrow as u8);
                rest = &rest[3..];
            }
            (None, None) => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// Full-width forms of ASCII become ASCII in many code pages.
fn best_fit(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap(),
        '\u{a5}' | '\u{20a9}' | '\u{2216}' => '\\',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{2024}' => '.',
        c => c,
    }
}

fn escaped(text: &str) -> String {
    let plain = |b: u8| matches!(b, b'!'..=b'~') && !matches!(b, b'#' | b'%');
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") };
    text.bytes().map(one).collect()
}

/// One change of spelling at a place.
fn respelt(text: &str, kind: usize, at: usize) -> String {
    let at = at % text.len().max(1);
    let (before, rest) = text.split_at_checked(at).unwrap_or((text, ""));
    let Some(c) = rest.chars().next() else { return text.to_owned() };
    let after = &rest[c.len_utf8()..];
    let code = u32::from(c);
    let slash = |with: &str| match text[at..].find('/') {
        Some(found) => format!("{}{with}{}", &text[..at + found], &text[at + found + 1..]),
        None => text.to_owned(),
    };
    match kind {
        0 => format!("{before}{}{after}", c.to_ascii_uppercase()),
        1 => format!("{before}%{code:02X}{after}"),
        2 => format!("{before}%25{code:02x}{after}"),
        3 => format!("{before}%u{code:04x}{after}"),
        4 if c.is_ascii_graphic() && c != '%' => {
            let wide = char::from_u32(code + 0xfee0).unwrap().to_string();
            format!("{before}{}{after}", escaped(&wide))
        }
        5 => slash("//"),
        6 => slash("/./"),
        7 => slash("/x/../"),
        8 => slash("\\"),
        9 => slash("%2f"),
        10 => slash("%5C"),
        11 => slash("./"),
        12 => slash("%20/"),
        13 => slash(";x/"),
        14 => slash("::$DATA/"),
        15 => slash("/(S(abc))/"),
        16 => slash("%e2%88%95"),
        17 => format!("{text}."),
        18 => format!("{text}%20"),
        19 => format!("{text}:$i30:$INDEX_ALLOCATION"),
        20 => format!("{text}/"),
        21 => format!("{text}?/ccm_client/"),
        22 => format!("/ccm_client/..{text}"),
        _ => text.to_owned(),
    }
}

fn targets() -> impl Strategy<Value = String> {
    let count = everything().iter().count();
    let below = "(/?|/[a-z._$]{1,6}|/ccm_client/[a-z]|/\\.sms_(aut|pol|dcm)|x)";
    let changes = prop::collection::vec((0_usize..24, any::<usize>()), 0..4);
    (0..count, below, changes).prop_map(|(route, below, changes)| {
        let pattern = everything().get(route).unwrap().pattern.to_string();
        let begin = format!("{}{below}", pattern.trim_end_matches('/'));
        changes.into_iter().fold(begin, |text, (kind, at)| respelt(&text, kind, at))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_a_web_server_reads_as_one_path_has_one_decision_or_none(target in targets()) {
        let table = everything();
        let Ok(ours) = CanonicalPath::parse(target.as_bytes(), LEN_MAX) else { return Ok(()) };
        let theirs = as_iis_reads(&target);
        let theirs = CanonicalPath::parse(escaped(&theirs).as_bytes(), LEN_MAX);
        prop_assert!(theirs.is_ok(), "{target}: {theirs:?}");
        let theirs = theirs.unwrap();
        // What no route covers is denied, and that is a decision that may differ.
        if table.place(&ours).is_none() {
            return Ok(());
        }
        prop_assert_eq!(table.place(&ours), table.place(&theirs), "{} {}", target, theirs);
        // Whatever the method and whoever asks.
        let judged = |path: &CanonicalPath| {
            ["GET", "POST", "CCM_POST"].map(|method| {
                table.find(path, method).and_then(|route| route.judge(None, false))
            })
        };
        prop_assert_eq!(judged(&ours), judged(&theirs));
    }
}

#[test]
fn what_a_preset_protects_has_no_spelling_that_opens_it_to_nobody() {
    let table = everything();
    let protects = |route: &&Route| route.requirement != Requirement::Anonymous;
    let mut spelt = 0;
    for route in table.iter().filter(protects) {
        for below in ["", "/x"] {
            let begin = format!("{}{below}", route.pattern.to_string().trim_end_matches('/'));
            for first in 0..24 {
                for at in 0..begin.len() {
                    let once = respelt(&begin, first, at);
                    for second in 0..24 {
                        let target = respelt(&once, second, at);
                        spelt += 1;
                        let Ok(path) = CanonicalPath::parse(target.as_bytes(), LEN_MAX) else {
                            continue;
                        };
                        let meant = as_iis_reads(&target);
                        let stem = route.pattern.to_string();
                        let inside = meant.strip_prefix(stem.trim_end_matches('/'));
                        if !inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                            continue;
                        }
                        let open = route.methods.iter().any(|method| {
                            table.find(&path, method).is_ok_and(|r| r.judge(None, false).is_ok())
                        });
                        assert!(!open, "{target} is {meant}");
                    }
                }
            }
        }
    }
    assert!(spelt > 50_000, "{spelt}");
}
