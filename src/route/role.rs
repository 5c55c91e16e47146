//! The roles of a site system, and their names.

/// A role of a site system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Policy, messages, registration, user services.
    ManagementPoint,
    /// Content.
    DistributionPoint,
    /// The SMS Provider's administration service.
    AdministrationService,
    /// Windows Server Update Services, as clients use it.
    SoftwareUpdatePoint,
    /// Receives messages of clients that cannot reach their management point.
    FallbackStatusPoint,
    /// The control part of user state migration; the states themselves use SMB.
    StateMigrationPoint,
    /// SQL Server Reporting Services.
    ReportingServicesPoint,
    /// sitegate's own: the server that gateways on other hosts follow.
    SiteServer,
}

impl Role {
    /// Every role, in the order of the documentation.
    pub const ALL: [Role; 8] = [
        Role::ManagementPoint,
        Role::DistributionPoint,
        Role::AdministrationService,
        Role::SoftwareUpdatePoint,
        Role::FallbackStatusPoint,
        Role::StateMigrationPoint,
        Role::ReportingServicesPoint,
        Role::SiteServer,
    ];

    /// The word used in configuration and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::ManagementPoint => "management-point",
            Role::DistributionPoint => "distribution-point",
            Role::AdministrationService => "administration-service",
            Role::SoftwareUpdatePoint => "software-update-point",
            Role::FallbackStatusPoint => "fallback-status-point",
            Role::StateMigrationPoint => "state-migration-point",
            Role::ReportingServicesPoint => "reporting-services-point",
            Role::SiteServer => "site-server",
        }
    }

    /// The role of this exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Role::ALL.into_iter().find(|r| r.as_str() == name)
    }
}
