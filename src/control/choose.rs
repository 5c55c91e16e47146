//! Chooses the credential of a folder that holds several: a fit one before an unfit one, then the
//! latest `not_before`, then the first by name, with the PEM pair before every PFX.
//!
//! A pure function of contents and time. File modification times play no part.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;

use crate::cert::{Anchors, CredentialFault, Judged, Rejected, Source, Staple};
use crate::unfit::Unfit;

use super::cert_folder::{Candidate, LoadedFolder};
use super::judged_credential::{Holding, Judge};

/// The folder's credential, and the credentials that were passed over.
#[derive(Debug)]
pub(super) struct Chosen {
    pub holding: Holding,
    pub group_readable: bool,
    pub beside: Vec<Holding>,
    pub passed_over: Vec<Rejected>,
}

/// Picks the folder's credential. `system` are the roots for a credential that brings none.
///
/// # Errors
/// The first fault, if no credential is readable.
pub(super) fn pick(
    candidates: Vec<Candidate>,
    system: &Arc<Anchors>,
    judge: &Judge<'_>,
    now: Timestamp,
    source: Source,
) -> Result<Chosen, CredentialFault> {
    let alone = candidates.len() == 1;
    let named = |file: &str, fault: CredentialFault| match (alone, fault.detail.as_str()) {
        (true, _) => fault,
        (false, "") => CredentialFault::new(fault.unfit, file),
        (false, detail) => CredentialFault::new(fault.unfit, format!("{file}: {detail}")),
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
    // Stable, so that equal candidates stay in the order of their names.
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
    Ok(Chosen { holding, group_readable, beside, passed_over })
}

fn holding(loaded: LoadedFolder, system: &Arc<Anchors>, judge: &Judge<'_>) -> (Holding, bool) {
    let LoadedFolder { credential, anchors, staple, group_readable } = loaded;
    let anchors = anchors.unwrap_or_else(|| system.clone());
    let read = |der: Arc<[u8]>| Staple::read(&der, &credential, &anchors, judge.provider);
    let staple = staple.map(read);
    (Holding { credential, anchors, staple }, group_readable)
}

fn rejected(
    judged: Judged,
    named: impl Fn(CredentialFault) -> CredentialFault,
    source: Source,
) -> Rejected {
    let facts = Some(judged.credential.facts().clone());
    let fault = judged.faults.into_iter().next().unwrap_or_else(|| Unfit::Superseded.into());
    Rejected { source, fault: named(fault), facts }
}
