//! The purpose of a token. Routes name the purposes that they accept; an unknown purpose grants
//! nothing.

/// The purpose of a token, read from its claims and never from the client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Allows registration only (a bulk registration token).
    Registration,
    /// A client's work: policy, inventory, content, user services.
    Client,
    /// Content of a distribution point only.
    Content,
    /// Boot media: content and named policy paths.
    Media,
    /// A task sequence: content and named policy paths.
    TaskSequence,
}

impl Purpose {
    /// Every purpose, in the order of the documentation.
    pub const ALL: [Purpose; 5] = [
        Purpose::Registration,
        Purpose::Client,
        Purpose::Content,
        Purpose::Media,
        Purpose::TaskSequence,
    ];

    /// The word used in configuration, logs and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Registration => "registration",
            Purpose::Client => "client",
            Purpose::Content => "content",
            Purpose::Media => "media",
            Purpose::TaskSequence => "task-sequence",
        }
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of purposes, for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Purposes(u8);

impl Purposes {
    /// No purpose at all.
    pub const NONE: Purposes = Purposes(0);

    /// The set of these purposes.
    #[expect(
        clippy::indexing_slicing,
        reason = "const code has no iterators; i is below the length"
    )]
    pub const fn of(list: &[Purpose]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < list.len() {
            bits |= 1 << list[i] as u8;
            i += 1;
        }
        Purposes(bits)
    }

    /// Whether the set contains `purpose`.
    pub const fn contains(self, purpose: Purpose) -> bool {
        self.0 & (1 << purpose as u8) != 0
    }

    /// The purposes in the set, in the order of [`Purpose::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Purpose> {
        Purpose::ALL.into_iter().filter(move |p| self.contains(*p))
    }
}
