//! Who else uses the database, and where agents are that do not appear.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use a2a_core::registry::RegistryStats;
use a2a_store::error::StoreError;
use a2a_store::store::{Location, ProcessSeen, Store};

use super::{Check, shown};
use crate::config::Config;
use crate::heartbeat::SILENT;

/// What a caller does not feel.
const PING_SLOW: Duration = Duration::from_millis(50);
/// As many as a busy server has under way at once.
const PINGS: usize = 5;

/// Lists the servers and workers that are alive, and what each uses.
pub(super) async fn running(config: &Config) -> Check {
    const NAME: &str = "processes";
    let looked = async { Store::connect(&config.location).await?.process_list().await };
    let all: Vec<ProcessSeen> = match looked.await {
        Ok(all) => all,
        Err(error) => return Check::warn(NAME, "unreadable", error.to_string()),
    };
    let silent = i64::try_from(SILENT.as_millis()).unwrap_or(i64::MAX);
    let (alive, gone): (Vec<&ProcessSeen>, Vec<&ProcessSeen>) = all.iter().partition(|seen| seen.silent_ms <= silent);
    let lines: Vec<String> = alive.iter().map(|seen| line(seen)).collect();
    let others = match gone.len() {
        0 => String::new(),
        count => format!("; {count} more ended without saying so"),
    };
    let detail = match alive.len() {
        0 => format!("no other process uses this database now{others}"),
        count => format!("{count} running{others}"),
    };
    let this = env!("CARGO_PKG_VERSION");
    let versions: BTreeSet<&str> =
        alive.iter().map(|seen| seen.info.version.as_str()).chain(std::iter::once(this)).collect();
    let namespace = config.namespace.as_str();
    let elsewhere: BTreeSet<&str> =
        alive.iter().map(|seen| seen.info.namespace.as_str()).filter(|other| *other != namespace).collect();
    let mut check = if versions.len() > 1 {
        let versions: Vec<&str> = versions.into_iter().collect();
        Check::warn(NAME, "several_versions", format!("{detail}, with versions {}", versions.join(", ")))
            .next("restart the clients, and see with `a2a-mcp init` that all start the same program")
    } else if !elsewhere.is_empty() {
        let elsewhere: Vec<&str> = elsewhere.into_iter().collect();
        let detail =
            format!("{detail}, some in another namespace ({}) than this one's {namespace}", elsewhere.join(", "));
        Check::warn(NAME, "other_namespace", detail)
            .next("set the same A2A_NAMESPACE everywhere, if all are to see the same agents")
    } else {
        Check::ok(NAME, detail)
    };
    check.lines = lines;
    check
}

fn line(seen: &ProcessSeen) -> String {
    let info = &seen.info;
    let client = info.client.as_ref().map_or_else(String::new, |client| format!(" for {client}"));
    format!(
        "{} {} at {}{client}: version {}, {}, namespace {}, since {}, alive {} ago",
        info.kind,
        info.pid,
        info.host,
        info.version,
        info.mode,
        info.namespace,
        seen.started_at,
        shown(Duration::from_millis(u64::try_from(seen.silent_ms).unwrap_or_default()))
    )
}

/// Where agents are, when there are none where this process looks.
pub(super) async fn elsewhere(config: &Config, all: &RegistryStats) -> Check {
    const NAME: &str = "agents";
    let namespace = config.namespace.as_str();
    let here = all.namespaces.iter().find(|(name, _)| name == namespace).map_or(0, |(_, count)| *count);
    if here > 0 {
        return Check::ok(NAME, format!("{here} in the namespace {namespace}"));
    }
    if let Some((other, count)) = all.namespaces.iter().max_by_key(|(_, count)| *count) {
        let detail = format!("none in the namespace {namespace}, but {count} in {other}");
        return Check::warn(NAME, "other_namespace", detail).next(format!("A2A_NAMESPACE={other} a2a-mcp agents list"));
    }
    let schemas = async { Store::connect(&config.location).await?.other_schemas().await };
    let schemas = match schemas.await {
        Ok(schemas) => schemas,
        Err(error) => return Check::warn(NAME, "unreadable", error.to_string()),
    };
    if let Some((schema, count)) = schemas.iter().max_by_key(|(_, count)| *count) {
        let detail = format!("none here; the schema {schema} of the same database has tables of this program, too");
        let detail = if *count > 0 { format!("{detail}, and about {count} agents") } else { detail };
        return Check::warn(NAME, "other_schema", detail)
            .next(format!("put ?schema={schema} into DATABASE_URL, if those are meant"));
    }
    Check::ok(NAME, format!("none yet in {}", config.location))
        .next("a2a-mcp seed    (begins with a roster), or a2a-mcp agents deploy FOLDER")
}

/// Whether several calls at once get their connections, and how long a round trip takes then.
pub(super) async fn pool(config: &Config) -> Option<Check> {
    const NAME: &str = "pool";
    if !matches!(config.location, Location::Postgres(_)) {
        return None;
    }
    let measured = async {
        let store = Store::connect(&config.location).await?;
        // Once to open the connections, then to measure what a server has that runs.
        at_once(&store).await?;
        at_once(&store).await
    };
    Some(match measured.await {
        Err(error) => Check::warn(NAME, "unreadable", error.to_string())
            .next("raise max_connections of the server, or put a pooler in front of it"),
        Ok(took) if took > PING_SLOW => {
            let detail = format!("{PINGS} round trips at once took {}; under 10 ms is normal nearby", shown(took));
            Check::warn(NAME, "slow", detail).next(
                "bring the database nearer: reads do not wait for it, but each write waits for several round trips",
            )
        }
        Ok(took) => Check::ok(NAME, format!("{PINGS} round trips at once took {}", shown(took))),
    })
}

async fn at_once(store: &Store) -> Result<Duration, StoreError> {
    let started = Instant::now();
    futures_util::future::try_join_all((0..PINGS).map(|_| store.ping())).await?;
    Ok(started.elapsed())
}
