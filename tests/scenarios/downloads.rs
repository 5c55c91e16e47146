//! Downloads by BITS and other clients: ranges, resuming, odd names, sizes from zero to more than 4
//! GiB, and no added fields that would break them.

use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};

use crate::support::{Answer, Nginx, Plan, write_pattern};

const GIB: u64 = 1 << 30;
const FOLDER: &str = "/SMS_DP_SMSPKG$/PS100001";

/// Sends a request to nginx directly, in the form that the gateway's client would use.
fn direct(nginx: &Nginx, path: &str, args: &[&str]) -> (String, Vec<u8>) {
    let out = Command::new("curl")
        .args(["-sS", "-D", "-", "--http1.1", "--path-as-is"])
        .args(args)
        .arg(format!("{}{path}", nginx.url()))
        .output()
        .unwrap();
    let end = out.stdout.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8_lossy(&out.stdout[..end]).into_owned(), out.stdout[end..].to_vec())
}

fn field(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// Returns the status, and the fields for the length and range of a response.
fn measures(status: u16, head: &str) -> (u16, Vec<Option<String>>) {
    let named = ["content-length", "content-range", "content-encoding", "etag", "accept-ranges"];
    (status, named.iter().map(|name| field(head, name)).collect())
}

#[test]
fn five_gibibytes_arrive_intact_at_flat_memory() {
    let nginx = Nginx::start();
    let path = nginx.content().join("sparse.wim");
    let mut file = std::fs::File::create(&path).unwrap();
    file.set_len(5 * GIB).unwrap();
    // At the limits of 31-bit and 32-bit lengths, and at both ends of the file.
    let marks = [0, 2 * GIB - 4, 4 * GIB - 4, 4 * GIB + 100, 5 * GIB - 8];
    for at in marks {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(b"SITEGATE").unwrap();
    }
    let gateway = Plan::to(&nginx.url()).start();
    let token = gateway.token();
    gateway.curl_as(&token, &format!("{FOLDER}/small.txt"), &[]);
    let before = gateway.memory_kib();
    let header = format!("Authorization: Bearer {token}");
    let url = gateway.url(&format!("{FOLDER}/sparse.wim"));
    let mut curl = gateway
        .curl_command(&["--http1.1", "--fail", "-H", &header, &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = curl.stdout.take().unwrap();
    let (mut buffer, mut at, mut found) = (vec![0; 1 << 20], 0_u64, Vec::new());
    let nothing = vec![0; 1 << 20];
    let began = std::time::Instant::now();
    loop {
        let n = out.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        // Nearly all bytes are zero, which is fast to compare.
        if buffer[..n] != nothing[..n] {
            let bytes = buffer[..n].iter().enumerate().filter(|(_, b)| **b != 0);
            found.extend(bytes.map(|(i, b)| (at + i as u64, *b)));
        }
        at += n as u64;
    }
    assert!(curl.wait().unwrap().success());
    let written = |at: u64| (at..).zip(*b"SITEGATE");
    assert_eq!(at, 5 * GIB);
    assert_eq!(found, marks.into_iter().flat_map(written).collect::<Vec<_>>());
    let grown = gateway.memory_kib().saturating_sub(before);
    println!("5 GiB in {:?}: memory grew by {grown} KiB", began.elapsed());
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB");
    // Beyond 4 GiB a download resumes where it was cut off.
    let range = format!("{}-{}", 4 * GIB + 100, 4 * GIB + 107);
    for protocol in ["--http1.1", "--http2"] {
        let part =
            gateway.curl_as(&token, &format!("{FOLDER}/sparse.wim"), &[protocol, "-r", &range]);
        assert_eq!((part.status, &*part.body), (206, &b"SITEGATE"[..]), "{protocol}");
        let whole = format!("bytes {range}/{}", 5 * GIB);
        assert_eq!(field(&part.head, "content-range"), Some(whole), "{protocol}");
    }
}

#[test]
fn ranges_conditions_and_odd_names_match_the_backend() {
    let nginx = Nginx::start();
    std::fs::write(nginx.content().join("nothing.dat"), "").unwrap();
    for name in ["$half$.cab", "with space & more.msi", "Ümlaut (x64) [1].txt"] {
        write_pattern(&nginx.content().join(name), 1);
    }
    let gateway = Plan::to(&nginx.url()).start();
    let token = gateway.token();
    let tag = field(&direct(&nginx, &format!("{FOLDER}/small.txt"), &["-I"]).0, "etag").unwrap();
    let same = format!("If-Range: {tag}");
    let cases: &[(&str, &[&str])] = &[
        ("nothing.dat", &[]),
        ("nothing.dat", &["-I"]),
        ("nothing.dat", &["-r", "0-"]),
        ("small.txt", &["-r", "2-5", "-H", &same]),
        ("small.txt", &["-r", "2-5", "-H", "If-Range: \"another\""]),
        ("small.txt", &["-r", "5-2"]),
        ("small.txt", &["-r", "10-"]),
        ("small.txt", &["-r", "0-0", "-I"]),
        ("small.txt", &["-H", "Accept-Encoding: gzip, br, zstd"]),
        ("$half$.cab", &["-r", "1000-1999"]),
        ("$HALF$.cab", &["-r", "-1"]),
        ("with%20space%20&%20more.msi", &["-r", "0-99"]),
        ("%C3%9Cmlaut%20(x64)%20%5B1%5D.txt", &[]),
    ];
    for (name, args) in cases {
        let path = format!("{FOLDER}/{name}");
        let (head, body) = direct(&nginx, &path, args);
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        for protocol in ["--http1.1", "--http2"] {
            let args = [&[protocol, "-g"], *args].concat();
            let Answer { status: got, head: through, body: bytes } =
                gateway.curl_as(&token, &path, &args);
            assert_eq!(
                measures(got, &through),
                measures(status, &head),
                "{protocol} {name} {args:?}"
            );
            assert!(bytes == body, "{protocol} {name} {args:?}");
        }
    }
    // Each multipart/byteranges response has a new boundary; everything else is equal.
    let path = format!("{FOLDER}/small.txt");
    let parts = |head: &str, body: &[u8]| {
        let kind = field(head, "content-type").unwrap();
        let boundary = kind.split_once("boundary=").unwrap().1.to_owned();
        let body = String::from_utf8_lossy(body).replace(&boundary, "B");
        (field(head, "content-length"), body)
    };
    let (head, body) = direct(&nginx, &path, &["-r", "0-1,4-6,-1"]);
    for protocol in ["--http1.1", "--http2"] {
        let several = gateway.curl_as(&token, &path, &[protocol, "-r", "0-1,4-6,-1"]);
        assert_eq!(parts(&several.head, &several.body), parts(&head, &body), "{protocol}");
        assert_eq!(several.status, 206, "{protocol}");
    }
}

#[test]
fn a_download_that_was_cut_off_goes_on_where_it_ended() {
    let nginx = Nginx::start();
    let file = nginx.content().join("big.wim");
    write_pattern(&file, 8);
    let gateway = Plan::to(&nginx.url()).start();
    let token = gateway.token();
    let whole = std::fs::read(&file).unwrap();
    let got = gateway.path("got.wim");
    std::fs::write(&got, &whole[..3_000_001]).unwrap();
    let header = format!("Authorization: Bearer {token}");
    let url = gateway.url(&format!("{FOLDER}/big.wim"));
    let mut curl = gateway.curl_command(&["--fail", "-C", "-", "-H", &header, "-o"]);
    assert!(curl.arg(&got).arg(url).status().unwrap().success());
    assert!(std::fs::read(&got).unwrap() == whole);
    nginx.assert_seen(1);
    assert!(nginx.seen()[0].contains(" 206 "), "{:?}", nginx.seen());
}
