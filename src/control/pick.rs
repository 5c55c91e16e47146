//! Which credential of a folder that holds several is the folder's: a fit one before an unfit one,
//! then the one whose validity began last, then the first by name with the pair before every PFX.
//!
//! A pure function of contents and time. When a file was written plays no part.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cert::{Anchors, Fault, Judged, Rejected, Source, Staple};
use crate::unfit::Unfit;

use super::store::{Candidate, Loaded};
use super::supply::{Holding, Judge};

/// The folder's credential, and what was passed over for it.
#[derive(Debug)]
pub(super) struct Picked {
    pub holding: Holding,
    pub group_readable: bool,
    pub beside: Vec<Holding>,
    pub passed_over: Vec<Rejected>,
}

/// Pick the folder's credential. `system` are the roots for what brings none.
///
/// # Errors
/// Where none can be read, the first fault.
pub(super) fn pick(
    candidates: Vec<Candidate>,
    system: &Arc<Anchors>,
    judge: &Judge<'_>,
    now: Timestamp,
    source: Source,
) -> Result<Picked, Fault> {
    let alone = candidates.len() == 1;
    let named = |file: &str, fault: Fault| match (alone, fault.detail.as_str()) {
        (true, _) => fault,
        (false, "") => Fault::new(fault.unfit, file),
        (false, detail) => Fault::new(fault.unfit, format!("{file}: {detail}")),
    };
    let mut read = Vec::new();
    let mut broken = Vec::new();
    for Candidate { file, found } in candidates {
        match found {
            Ok(loaded) => {
                let (holding, group_readable) = holding(loaded, system, judge);
                let judged = judge.judge(&holding, now);
                read.push((file, holding, judged, group_readable));
            }
            Err(fault) => broken.push(named(&file, fault)),
        }
    }
    // Stable, so that equals stay in the order of their names.
    read.sort_by_key(|(_, _, judged, _)| {
        (!judged.fit(), Reverse(judged.credential.facts().not_before))
    });
    let mut read = read.into_iter();
    let Some((_, holding, _, group_readable)) = read.next() else {
        let fault = broken.into_iter().next();
        return Err(fault.unwrap_or_else(|| Unfit::Absent.into()));
    };
    let unread = |fault| Rejected { source, fault, facts: None };
    let mut passed_over: Vec<Rejected> = broken.into_iter().map(unread).collect();
    let mut beside = Vec::new();
    for (file, other, judged, _) in read {
        passed_over.push(rejected(judged, |fault| named(&file, fault), source));
        beside.push(other);
    }
    Ok(Picked { holding, group_readable, beside, passed_over })
}

fn holding(loaded: Loaded, system: &Arc<Anchors>, judge: &Judge<'_>) -> (Holding, bool) {
    let Loaded { credential, anchors, staple, group_readable } = loaded;
    let anchors = anchors.unwrap_or_else(|| system.clone());
    let read = |der: Arc<[u8]>| Staple::read(&der, &credential, &anchors, judge.provider);
    let staple = staple.map(read);
    (Holding { credential, anchors, staple }, group_readable)
}

fn rejected(judged: Judged, named: impl Fn(Fault) -> Fault, source: Source) -> Rejected {
    let facts = Some(judged.credential.facts().clone());
    let fault = judged.faults.into_iter().next().unwrap_or_else(|| Unfit::Superseded.into());
    Rejected { source, fault: named(fault), facts }
}
