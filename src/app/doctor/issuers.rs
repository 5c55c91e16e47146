//! Checks that the keys of token issuers can be fetched, and that their clocks agree with ours.

use super::ask::skew;
use super::finding::{Ailment, Finding};
use super::{Instruments, Probes, SKEW_MAX_S, within};
use crate::config::{Config, KeySource, KeyUrl};
use crate::control::{Provider, Web};

pub(super) fn probe(config: &Config, with: &Instruments, probes: &mut Probes) {
    for issuer in &config.issuers {
        let KeySource::Url(place) = &issuer.keys else { continue };
        let name = issuer.policy.name.to_string();
        let provider = provider(place, issuer.policy.accepts.clone(), with);
        let evidence = format!("{}: no response in time", place.url);
        let late = Finding::new(Ailment::IssuerUnreachable, name.clone(), evidence);
        probes.spawn(within(late, fetch(name, provider, with.clone())));
    }
}

fn provider(place: &KeyUrl, accepts: Vec<String>, with: &Instruments) -> Provider {
    Provider {
        web: Web {
            provider: with.provider.clone(),
            system: with.system.clone(),
            ca: place.ca.clone(),
            private_hosts: place.private_hosts.clone(),
        },
        url: place.url.clone(),
        discovery: place.discovery,
        accepts,
        key_hosts: place.key_hosts.clone(),
    }
}

async fn fetch(name: String, provider: Provider, with: Instruments) -> Vec<Finding> {
    match provider.look().await {
        Err(why) => {
            let evidence = format!("{}: {why}", provider.url);
            vec![Finding::new(Ailment::IssuerUnreachable, name, evidence)]
        }
        Ok(date) => {
            let skew = date.and_then(|date| skew(&date, with.clock.now()));
            let evidence = |skew| format!("its Date is {skew} seconds from this machine's time");
            skew.filter(|skew| *skew > SKEW_MAX_S)
                .map(|skew| Finding::new(Ailment::ClockIssuer, name, evidence(skew)))
                .into_iter()
                .collect()
        }
    }
}
