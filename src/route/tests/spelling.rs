//! Path spellings: paths that a web server reads as one path are one path here, or rejected.

use super::*;

/// A path as the most lenient Windows server would read it: all escapes decoded, however often they
/// were encoded, one kind of slash, and no dots, streams, parameters or ASP.NET session segments.
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
    // A question mark that the proxy did not recognize as one.
    let text = text.split('?').next().unwrap_or_default();
    let text = text.to_ascii_lowercase().replace('\\', "/");
    let ends = text.ends_with('/');
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        let segment = if segment.starts_with('(') && segment.get(2..3) == Some("(") {
            segment.split_once("))").map_or("", |(_, rest)| rest)
        } else {
            segment
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

/// Decodes one round of `%2f` and `%u002f`.
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

/// Changes the spelling at one position.
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
        23 => format!("{before};{rest}"),
        24 => format!("{before}%3b{rest}"),
        25 => format!("{before}%25{rest}"),
        26 => slash("/..;x/"),
        _ => text.to_owned(),
    }
}

fn targets() -> impl Strategy<Value = String> {
    let count = everything().iter().count();
    let below = "(/?|/[a-z._$]{1,6}|/ccm_client/[a-z]|/\\.sms_(aut|pol|dcm)|x)";
    let changes = prop::collection::vec((0_usize..28, any::<usize>()), 0..4);
    (0..count, below, changes).prop_map(|(route, below, changes)| {
        let pattern = everything().get(route).unwrap().pattern.to_string();
        let begin = format!("{}{below}", pattern.trim_end_matches('/'));
        changes.into_iter().fold(begin, |text, (kind, at)| respelt(&text, kind, at))
    })
}

/// The path that a web server reads gets the same route and decision as the target itself.
fn has_one_decision(target: &str) -> Result<(), TestCaseError> {
    let table = everything();
    let Ok(ours) = CanonicalPath::parse(target.as_bytes(), LEN_MAX) else { return Ok(()) };
    let theirs = as_iis_reads(target);
    let theirs = CanonicalPath::parse(escaped(&theirs).as_bytes(), LEN_MAX);
    prop_assert!(theirs.is_ok(), "{target}: {theirs:?}");
    let theirs = theirs.unwrap();
    // Without a route the target is denied, and that decision may differ.
    if table.place(&ours).is_err() {
        return Ok(());
    }
    prop_assert_eq!(table.place(&ours), table.place(&theirs), "{} {}", target, theirs);
    // For any method, without credentials.
    let judged = |path: &CanonicalPath| {
        ["GET", "POST", "CCM_POST"]
            .map(|method| table.find(path, method).and_then(|route| route.judge(None, false)))
    };
    prop_assert_eq!(judged(&ours), judged(&theirs));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_a_web_server_reads_as_one_path_has_one_decision_or_none(target in targets()) {
        has_one_decision(&target)?;
    }
}

#[rstest]
#[case::below_a_route("/sitegate/site/v1/identity/_.a.%ef%bc%9f/ccm_client/")]
#[case::below_a_route_like_a_name("/sitegate/site/v1/identity/.sms_aut%ef%bc%9f/ccm_client/")]
#[case::in_the_name_of_a_route("/SMS_MP/.sms_aut%ef%bc%9fx")]
fn a_question_mark_of_full_width_changes_no_decision(#[case] target: &str) {
    has_one_decision(target).unwrap();
}

#[test]
fn no_spelling_opens_a_protected_path_anonymously() {
    let table = everything();
    let protects = |route: &&Route| route.requirement != Requirement::Anonymous;
    let mut spelt = 0;
    for route in table.iter().filter(protects) {
        for below in ["", "/x"] {
            let begin = format!("{}{below}", route.pattern.to_string().trim_end_matches('/'));
            for first in 0..28 {
                for at in 0..begin.len() {
                    let once = respelt(&begin, first, at);
                    for second in 0..28 {
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

/// The operator's stricter routes nested in laxer ones, with names for neighboring folders.
fn nested() -> RouteTable {
    let own = [
        ("/open/", Requirement::Anonymous),
        ("/open/kiosk/", Requirement::Deny),
        ("/open/kiosk/public/", Requirement::Anonymous),
        ("/open/kiosk/public/keys/", Requirement::Device),
        ("/open/files/list", Requirement::User),
        ("/open/pr%c3%bcfung/", Requirement::Deny),
    ];
    let own = own.map(|(pattern, requirement)| super::own(pattern, requirement));
    RouteTable::new(own.into(), presets(&Role::ALL).into_iter().map(|(_, r)| r).collect())
}

/// A text as some backend may read it: case folded, normalized, without invisible characters, and
/// with letters replaced as by Windows' code pages.
fn folded(text: &str) -> String {
    use icu_properties::props::DefaultIgnorableCodePoint;
    let unseen = icu_properties::CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let seen: String = text.chars().filter(|c| !unseen.contains(*c)).collect();
    let form = icu_normalizer::ComposingNormalizerBorrowed::new_nfkc();
    let letter = |c: char| match c {
        '\u{17f}' => 's',
        '\u{131}' | '\u{130}' => 'i',
        '\u{3b1}' => 'a',
        '\u{101}' | '\u{100}' => 'a',
        '\u{4bb}' => 'h',
        c => c,
    };
    let lower = form.normalize(&seen).to_lowercase();
    let trimmed = |segment: &str| {
        segment.trim_end_matches(|c: char| c == '.' || c.is_whitespace()).to_owned()
    };
    let segments: Vec<String> =
        lower.chars().map(letter).collect::<String>().split('/').map(trimmed).collect();
    segments.join("/")
}

/// A path with one character replaced by, or preceded by, one that some servers fold away.
fn disguised() -> impl Strategy<Value = String> {
    let begins = prop::sample::select(vec![
        "/open/kiosk/x",
        "/open/kiosk/public/keys/a",
        "/open/kiosk/public/a.txt",
        "/open/files/list",
        "/open/files/other",
        "/open/pr\u{fc}fung/x",
        "/open/\u{dc}bung/x",
        "/sms_mp/.sms_pol",
        "/sms_dp_smspkg$/PS100001/a.txt",
    ]);
    let like = |c: char| -> Vec<char> {
        let wide = u32::from(c).checked_add(0xfee0).filter(|_| c.is_ascii_graphic());
        let circled = c.is_ascii_lowercase().then(|| u32::from(c) - 0x61 + 0x24d0);
        let bold = c.is_ascii_lowercase().then(|| u32::from(c) - 0x61 + 0x1d41a);
        let more = match c {
            'k' => "\u{212a}",
            's' => "\u{17f}",
            'i' => "\u{131}\u{130}",
            'a' => "\u{3b1}\u{101}\u{100}",
            'h' => "\u{4bb}",
            '\u{fc}' => "\u{dc}",
            _ => "",
        };
        let codes = [wide, circled, bold].into_iter().flatten().filter_map(char::from_u32);
        codes.chain(more.chars()).collect()
    };
    let unseen = "\u{ad}\u{feff}\u{2060}\u{200d}\u{200b}\u{34f}\u{1680}\u{2028}\u{2029}\u{85}\u{3000}\u{301}";
    let changes = prop::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()),
        1..4,
    );
    (begins, changes).prop_map(move |(begin, changes)| {
        let mut text: Vec<char> = begin.chars().collect();
        for (at, which, inserts) in changes {
            let at = 1 + at.index(text.len() - 1);
            let with = like(text[at]);
            match (inserts, with.is_empty()) {
                (false, false) => text[at] = with[which.index(with.len())],
                _ => text
                    .insert(at, unseen.chars().nth(which.index(unseen.chars().count())).unwrap()),
            }
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_path_that_folds_to_another_has_its_route_or_none(
        text in disguised(),
    ) {
        let table = nested();
        let Ok(ours) = CanonicalPath::parse(escaped(&text).as_bytes(), LEN_MAX) else { return Ok(()) };
        let theirs = CanonicalPath::parse(escaped(&folded(&text)).as_bytes(), LEN_MAX);
        prop_assert!(theirs.is_ok(), "{text:?}: {theirs:?}");
        let Ok(place) = table.place(&ours) else { return Ok(()) };
        prop_assert_eq!(Ok(place), table.place(&theirs.unwrap()), "{:?}", text);
    }
}

#[test]
fn an_ambiguous_name_beside_nested_routes_is_refused() {
    let table = nested();
    for name in [
        "%e2%84%aaiosk",
        "kio%c5%bfk",
        "k%c4%b1osk",
        "%ef%bd%8biosk",
        "ki%c2%adosk",
        "%ef%bb%bfkiosk",
        "kiosk%e1%9a%80",
        "kiosk%e2%80%a8",
        "kiosk%e2%80%a9",
        "kio%e2%81%a0sk",
        "%e2%93%9aiosk",
        "%f0%9d%90%a4iosk",
        "%c4%b7iosk",
        "PR%c3%9cFUNG",
        "pru%cc%88fung",
        "%e6%97%a5%e6%9c%ac",
    ] {
        for below in ["", "/", "/x"] {
            let path = CanonicalPath::parse(format!("/open/{name}{below}").as_bytes(), LEN_MAX);
            let found = path.and_then(|path| table.place(&path));
            assert_eq!(found, Err(Denial::PathAmbiguous), "{name}{below}");
        }
    }
    for (target, pattern) in [
        ("/open/pr%C3%BCfung/x", "/open/pr%c3%bcfung/"),
        ("/open/other/%e6%97%a5%e6%9c%ac", "/open/"),
        ("/open/kiosk/public/other/%c3%9cber.pdf", "/open/kiosk/public/"),
        ("/open/list/%c3%9cber.pdf", "/open/"),
    ] {
        let found = table.covering(&path(target)).map(|route| route.pattern.to_string());
        assert_eq!(found.as_deref(), Some(pattern), "{target}");
    }
}

#[test]
fn what_may_be_read_as_a_guarded_name_is_guarded() {
    let table = RouteTable::new(vec![own("/open/kiosk/", Requirement::Deny)], vec![]);
    for (target, guards) in [
        ("/open/kiosk/x", true),
        ("/open/%e2%84%aaiosk/x", true),
        ("/open/other/x", false),
        ("/other/%e2%84%aaiosk/x", false),
    ] {
        assert_eq!(table.claims(&path(target)), guards, "{target}");
    }
}

#[test]
fn files_with_non_ascii_names_are_served_for_every_role() {
    let names = [
        "%c3%9cber%20uns.pdf",
        "%e6%97%a5%e6%9c%ac%e8%aa%9e/%ef%bc%a1.txt",
        "%d0%a4%d0%b0%d0%b9%d0%bb.msi",
        "a%e2%80%a6b.txt",
    ];
    let mut subtrees = 0;
    for role in Role::ALL {
        let table = RouteTable::new(vec![], preset(role));
        let takes_files = |route: &&Route| {
            let pattern = route.pattern.to_string();
            let nested = table.iter().any(|other| {
                other.pattern != route.pattern && other.pattern.to_string().starts_with(&pattern)
            });
            pattern.ends_with('/') && !nested && pattern != "/"
        };
        for route in table.iter().filter(takes_files) {
            subtrees += 1;
            for name in names {
                let target = format!("{}{name}", route.pattern);
                let found = table.covering(&path(&target)).map(|route| &route.name);
                assert_eq!(found, Some(&route.name), "{target}");
            }
        }
    }
    assert!(subtrees > 10, "{subtrees}");
}
