//! A real Prometheus with the shipped rules: its scrapes and its alerts.

use sitegate::clock::Clock;
use sitegate_forge::{Order, Pki};

use crate::support::{Gateway, Nginx, Plan, Prometheus, eventually, free_port};

const OPEN: &str = "/SMS_MP/.sms_aut?mplist";

#[test]
fn prometheus_alerts_on_a_fallback_and_a_backend_that_is_down() {
    let nginx = Nginx::start();
    // A second site system without a running backend.
    let gone = format!(
        "[[site_system]]\nname = \"mp02\"\nroles = [\"management-point\"]\nlisten = \"127.0.0.1:{}\"\nhosts = [\"mp02.contoso.com\"]\nbackend = \"http://127.0.0.1:{}\"\n",
        free_port(),
        free_port()
    );
    let gateway = Plan::to(&nginx.url()).after(&gone).start();
    let now = Clock::system().now();
    let pki = Pki::new("Contoso", now).unwrap();
    let pair = pki.issue(&Order::fit(&[Gateway::HOST], now)).unwrap();
    gateway.write_pki(&pair.chain, &pair.key, pki.root());
    let source = || gateway.status()["site_systems"][0]["certificate"]["source"].clone();
    eventually("the PKI's certificate is served", || source() == "pki");

    let prometheus = Prometheus::start(gateway.metrics);
    let served = "sitegate_certificate_info{site_system=\"mp01\",source=\"pki\"}";
    eventually("it is scraped", || prometheus.query(served).len() == 1);
    let (_, text) = gateway.get(gateway.metrics, "/metrics").unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE sitegate_"));
    for name in names.filter_map(|rest| rest.split_once(' ')) {
        let name = match name {
            (name, "histogram") => format!("sitegate_{name}_count"),
            (name, _) => format!("sitegate_{name}"),
        };
        assert!(!prometheus.query(&name).is_empty(), "{name} was not scraped");
    }
    let away =
        "abs(sitegate_clock_timestamp_seconds - timestamp(sitegate_clock_timestamp_seconds))";
    assert!(prometheus.query(away)[0].1 < 20.0, "the clocks of one machine agree");
    assert_eq!(prometheus.query("up{job=\"sitegate\"}")[0].1, 1.0);

    let fires = |alert: &str, site: &str| {
        let firing = prometheus.firing();
        firing.iter().any(|labels| labels["alertname"] == alert && labels["site_system"] == site)
    };
    assert!(!fires("SitegateFellBack", "mp01") && !fires("SitegateBackendDown", "mp02"));
    for name in ["tls.crt", "tls.key"] {
        std::fs::remove_file(gateway.path("pki").join(name)).unwrap();
    }
    eventually("the site's own takes over", || source() == "site-issued");
    eventually("it is told of", || fires("SitegateFellBack", "mp01"));

    let mp02 = gateway.status()["site_systems"][1]["listen"].as_str().unwrap().to_owned();
    let port = mp02.rsplit(':').next().unwrap().to_owned();
    let resolve = format!("mp02.contoso.com:{port}:127.0.0.1");
    let url = format!("https://mp02.contoso.com:{port}{OPEN}");
    eventually("the backend that is gone is told of", || {
        let asked = ["-o", "/dev/null", "-w", "%{http_code}", "--resolve", &resolve, &url];
        let out = gateway.curl_command(&asked).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "502");
        fires("SitegateBackendDown", "mp02")
    });
    assert!(!fires("SitegateBackendDown", "mp01"));
    let (bad, rules) = prometheus.bad_rules();
    assert!(bad.is_empty() && rules >= 25, "{bad:#?} of {rules}");
}
