//! The site's own authority.
