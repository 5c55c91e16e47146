//! The requirements of routes, by their words in the configuration file.

use crate::route::Requirement;

/// The requirements of a route, by their words in the file.
pub(super) const REQUIREMENTS: [(&str, Requirement); 7] = [
    ("anonymous", Requirement::Anonymous),
    ("device", Requirement::Device),
    ("user", Requirement::User),
    ("device-or-user", Requirement::DeviceOrUser),
    ("certificate", Requirement::Certificate),
    ("windows", Requirement::WindowsAuth),
    ("deny", Requirement::Deny),
];
