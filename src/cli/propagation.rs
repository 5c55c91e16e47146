//! Who has a change of the blocks: this host's process, and every gateway elsewhere, as far as they
//! have said so.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::config::Config;
use crate::site::store::{GatewayRecord, Store};

/// How long to wait for those who are there.
const WAIT_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Who was not heard of for so long is not waited for: a gateway asks at least every minute.
const AWAY: SignedDuration = SignedDuration::from_secs(150);

/// Wait until whoever is there has the blocks as they are now, and say who has them and who has not.
///
/// # Errors
/// What the database answers: the change itself has been made.
pub(super) async fn tell(store: &Store, config: &Config) -> anyhow::Result<Vec<String>> {
    let version = store.block_version().await?;
    let since = Instant::now();
    loop {
        let gateways = store.gateways().await?;
        let gateways: Vec<GatewayRecord> =
            gateways.into_iter().filter(|g| g.revoked.is_none()).collect();
        let bundle = if gateways.is_empty() { None } else { store.bundle_of(version).await? };
        let now = crate::clock::Clock::system().now();
        let (have, missing): (Vec<&GatewayRecord>, Vec<&GatewayRecord>) =
            gateways.iter().partition(|gateway| bundle.is_some_and(|b| gateway.bundle >= b));
        let here = here(config);
        // Asked after the process, so that it is no older.
        let present = store.block_version().await?;
        let is_here = here.is_none_or(|held| has(held, version, present));
        let is_told = gateways.is_empty() || bundle.is_some();
        let all = missing.iter().all(|gateway| is_away(gateway, now));
        if (is_here && is_told && all) || since.elapsed() > WAIT_MAX {
            let mut lines = vec![match here {
                Some(_) if is_here => "in force on this host".to_owned(),
                Some(_) => "NOT yet in force on this host: see 'sitegate status'".to_owned(),
                None => "no sitegate with this configuration responds on this host".to_owned(),
            }];
            if !is_told {
                lines.push(
                    "NOT sent to gateways on other hosts: no site server has put it into a bundle; \
                     start one with this store, or see its log"
                        .to_owned(),
                );
            }
            if !have.is_empty() {
                let names: Vec<&str> = have.iter().map(|gateway| gateway.name.as_str()).collect();
                lines.push(format!("in force at {}", names.join(", ")));
            }
            lines.extend(missing.iter().map(|gateway| {
                let heard = match gateway.seen {
                    Some(seen) => super::wrap::when(seen, now),
                    None => "never".to_owned(),
                };
                format!("NOT in force at {}, last seen {heard}", gateway.name)
            }));
            return Ok(lines);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a process whose blocks are of this version has a change of the store's. Above what the
/// store has now, they are of the store that was there before a copy was restored.
fn has(held: i64, change: i64, present: i64) -> bool {
    (change..=present).contains(&held)
}

fn is_away(gateway: &GatewayRecord, now: Timestamp) -> bool {
    gateway.seen.is_none_or(|seen| now.duration_since(seen) > AWAY)
}

/// The version of the store's blocks that is in force in the process of this host, as it says.
fn here(config: &Config) -> Option<i64> {
    let (_, metrics) = super::health::get(config.metrics, "/metrics").ok()?;
    let line = metrics.lines().find(|line| line.starts_with("sitegate_store_blocks_version "))?;
    line.rsplit(' ').next()?.parse::<f64>().ok().map(|version| version as i64)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::has;

    #[rstest]
    #[case::not_yet(4, 5, 5, false)]
    #[case::just_now(5, 5, 5, true)]
    #[case::and_more_since(6, 5, 7, true)]
    #[case::of_a_store_that_was_replaced(9, 5, 5, false)]
    fn a_process_has_a_change_from_its_version_to_the_present_one(
        #[case] held: i64,
        #[case] change: i64,
        #[case] present: i64,
        #[case] has_it: bool,
    ) {
        assert_eq!(has(held, change, present), has_it);
    }
}
