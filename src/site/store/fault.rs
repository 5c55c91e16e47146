//! The faults of the store: a closed list. One row is the code in logs, the metric label, the name
//! in status, and the row in docs/store.md.
//!
//! Never contains a value, a password or a URL.

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident $code:literal $title:literal $hint:literal;)+) => {
        /// A fault of the store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum StoreFault { $($(#[doc = $doc])+ $variant,)+ }

        impl StoreFault {
            /// All faults, in the order of the documentation.
            pub const ALL: &[StoreFault] = &[$(StoreFault::$variant,)+];

            /// `store.reason`: the code.
            pub const fn code(self) -> &'static str { match self { $(StoreFault::$variant => $code,)+ } }

            /// The fault, as a sentence.
            pub const fn title(self) -> &'static str { match self { $(StoreFault::$variant => $title,)+ } }

            /// The remedy, as a sentence.
            pub const fn hint(self) -> &'static str { match self { $(StoreFault::$variant => $hint,)+ } }
        }
    };
}

faults! {
    /// SQLSTATE class 08, or an error of the operating system.
    Unreachable "store.unreachable"
        "The database server cannot be reached, or the connection to it was lost."
        "Check that the server runs, that host and port of the URL are right, and that no firewall blocks the connection.";
    /// The server does not respond at all.
    NoAnswer "store.no_answer"
        "The database server does not answer in time."
        "Check whether the server hangs, whether a firewall drops packets to it, and whether PostgreSQL listens there.";
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls "store.tls"
        "TLS with the database server fails."
        "Compare sslmode and sslrootcert of the URL with the server's certificate.";
    /// 53300.
    TooManyConnections "store.too_many_connections"
        "The database server has no connection left for sitegate."
        "Raise max_connections, or CONNECTION LIMIT of the role or the database; pg_stat_activity says who holds them.";
    /// The limit of sitegate's own connection pool.
    PoolExhausted "store.pool_exhausted"
        "All of sitegate's own connections to the store are in use, and none became free in time."
        "Look for slow statements and for locks in pg_stat_activity.";
    /// 57P01, 57P02, 57P03.
    NotReady "store.not_ready"
        "The database server is starting up or shutting down."
        "Wait until it is done; see its own log.";
    /// Class 28.
    Login "store.login"
        "The database server refuses the login of sitegate."
        "Compare user and password of the URL with the role, and pg_hba.conf with this machine's address.";
    /// 3D000, 57P04.
    DatabaseMissing "store.database_missing"
        "The database does not exist."
        "Correct the URL, or create the database.";
    /// 42501.
    Permission "store.permission"
        "The database's role lacks a right that sitegate needs."
        "Make the role the owner of the database and its tables, and let it create in its schema.";
    /// 25006.
    ReadOnly "store.read_only"
        "The store cannot be written: it is read-only here."
        "PostgreSQL: promote the standby, or let the URL name the primary. SQLite: check the mode and the mount of the folder.";
    /// 53100.
    Full "store.full"
        "The store cannot grow: the disk is full."
        "Free disk space; refused requests can be repeated, and no restart is needed.";
    /// The rest of class 53, 54 and 58.
    Resources "store.resources"
        "The database server is out of memory, or has a system error."
        "See the server's log; sitegate retries by itself.";
    /// 57014, 25P03, 25P04, 57P05.
    Timeout "store.timeout"
        "A statement took too long and was canceled."
        "Look for locks and slow statements in pg_stat_activity, and at statement_timeout and lock_timeout of the role.";
    /// Class 40, 55.
    Busy "store.busy"
        "The store is busy: other processes have been writing for too long."
        "Try again. If it stays busy, look for a process that keeps a transaction open.";
    /// SQLite: the file.
    File "store.file"
        "The store's file or its folder cannot be used."
        "Check its owner, its mode and the disk.";
    /// The process is stopping.
    Closed "store.closed"
        "The store has been closed."
        "sitegate is stopping, or reopens the file; try again.";
    /// Not a database, or a damaged one.
    Damaged "store.damaged"
        "The store is damaged, or not a store."
        "Restore a copy (docs/store.md).";
    /// Migrations that this program does not know.
    Newer "store.newer"
        "The store was changed by a later version of sitegate."
        "Run that version, or restore a copy from before it.";
    /// Migrations that differ from the known ones.
    Tables "store.tables"
        "The store's tables cannot be brought up to date."
        "Check whether another program has changed the tables; restore a copy.";
    /// Values that this program does not write.
    Content "store.content"
        "The store has unexpected data, not written by sitegate."
        "Check what else writes to it; restore a copy.";
    /// The configured URL is invalid.
    Url "store.url"
        "The store's URL is not valid."
        "Write postgres://USER:PASSWORD@HOST/DATABASE.";
    /// Any other error.
    Refused "store.refused"
        "The database refuses a statement."
        "See the server's log. If it is not about rights or extensions, it is a defect: report it.";
}

impl StoreFault {
    /// The fault of a PostgreSQL error, by its SQLSTATE (PostgreSQL documentation, Appendix A).
    pub(super) fn of_sqlstate(code: &str) -> Self {
        match (code, code.get(..2).unwrap_or_default()) {
            ("57P01" | "57P02" | "57P03", _) => StoreFault::NotReady,
            ("3D000" | "57P04", _) => StoreFault::DatabaseMissing,
            ("57014" | "57P05" | "25P03" | "25P04", _) => StoreFault::Timeout,
            ("53300", _) => StoreFault::TooManyConnections,
            ("53100", _) => StoreFault::Full,
            ("42501", _) => StoreFault::Permission,
            ("25006", _) => StoreFault::ReadOnly,
            (_, "08") => StoreFault::Unreachable,
            (_, "28") => StoreFault::Login,
            (_, "40" | "55") => StoreFault::Busy,
            (_, "53" | "54" | "58") => StoreFault::Resources,
            (_, "XX") => StoreFault::Damaged,
            _ => StoreFault::Refused,
        }
    }

    /// Whether the database is unreachable for everyone. Errors of a single transaction do not
    /// count.
    pub(super) const fn is_away(self) -> bool {
        matches!(
            self,
            StoreFault::Unreachable
                | StoreFault::NoAnswer
                | StoreFault::Tls
                | StoreFault::TooManyConnections
                | StoreFault::PoolExhausted
                | StoreFault::NotReady
                | StoreFault::Login
                | StoreFault::DatabaseMissing
        )
    }

    /// Whether it passes by itself while a server starts.
    pub(super) const fn may_pass(self) -> bool {
        matches!(
            self,
            StoreFault::Unreachable | StoreFault::NotReady | StoreFault::TooManyConnections
        )
    }

    /// Whether the store cannot be written, but perhaps read.
    pub const fn is_of_writing(self) -> bool {
        matches!(
            self,
            StoreFault::ReadOnly
                | StoreFault::Full
                | StoreFault::Resources
                | StoreFault::File
                | StoreFault::Damaged
        )
    }

    /// Whether it concerns the store, and not one transaction.
    pub const fn is_of_the_store(self) -> bool {
        self.is_away() || self.is_of_writing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_texts_are_sentences() {
        let mut codes: Vec<_> = StoreFault::ALL.iter().map(|fault| fault.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), StoreFault::ALL.len());
        for fault in StoreFault::ALL {
            assert!(fault.code().starts_with("store."), "{fault:?}");
            assert!(fault.title().ends_with('.') && fault.hint().ends_with('.'), "{fault:?}");
        }
    }

    #[test]
    fn sqlstates_map_to_store_faults() {
        for (code, fault) in [
            ("08006", StoreFault::Unreachable),
            ("08001", StoreFault::Unreachable),
            ("53300", StoreFault::TooManyConnections),
            ("53100", StoreFault::Full),
            ("53200", StoreFault::Resources),
            ("54000", StoreFault::Resources),
            ("58030", StoreFault::Resources),
            ("57P01", StoreFault::NotReady),
            ("57P02", StoreFault::NotReady),
            ("57P03", StoreFault::NotReady),
            ("57P04", StoreFault::DatabaseMissing),
            ("57P05", StoreFault::Timeout),
            ("57014", StoreFault::Timeout),
            ("25P03", StoreFault::Timeout),
            ("25006", StoreFault::ReadOnly),
            ("25001", StoreFault::Refused),
            ("28P01", StoreFault::Login),
            ("28000", StoreFault::Login),
            ("3D000", StoreFault::DatabaseMissing),
            ("42501", StoreFault::Permission),
            ("42P01", StoreFault::Refused),
            ("40001", StoreFault::Busy),
            ("40P01", StoreFault::Busy),
            ("55P03", StoreFault::Busy),
            ("23505", StoreFault::Refused),
            ("XX001", StoreFault::Damaged),
            ("", StoreFault::Refused),
        ] {
            assert_eq!(StoreFault::of_sqlstate(code), fault, "{code}");
        }
    }

    #[test]
    fn a_transactions_own_failure_is_not_the_stores() {
        let own = ["23505", "40001", "40P01", "55P03", "57014", "42501", "42P01"];
        for code in own {
            let fault = StoreFault::of_sqlstate(code);
            assert!(!fault.is_of_the_store() && !fault.is_away(), "{code}");
        }
        let full = StoreFault::of_sqlstate("53100");
        assert!(full.is_of_the_store() && !full.is_away(), "a full disk can be read");
    }
}
