//! `check`

use std::process::ExitCode;

use super::ConfigArg;

pub(super) fn run(arg: ConfigArg) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(&arg) {
        Ok(loaded) => loaded,
        Err(_) => return Ok(ExitCode::from(super::BAD_CONFIG)),
    };
    let config = loaded.config;
    let mut text = format!("{}: good\n", arg.config.display());
    for system in &config.site_systems {
        let roles: Vec<&str> = system.roles.iter().map(|role| role.as_str()).collect();
        text.push_str(&format!(
            "  {}: {} on {} for {}, to {}\n",
            system.name,
            if roles.is_empty() { "no role".to_owned() } else { roles.join(" and ") },
            system.listen,
            system.hosts.join(", "),
            system.backend.url,
        ));
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
