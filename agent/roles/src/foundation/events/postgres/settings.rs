//! What a scenario says of the database, as the client takes it; and the password, which only a file on the node says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gauntlet_common::storage::{Postgres, Storage};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Largest password file, bytes; a larger one is refused.
const PASSFILE_BYTES_MAX: u64 = 64 * 1024;

/// For the server to take a connection.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Why this database cannot be used, when the file is read; nothing is connected to.
pub fn check(postgres: &Postgres) -> Result<(), String> {
    parse(postgres).map(drop)
}

fn parse(postgres: &Postgres) -> Result<Config, String> {
    let config: Config = postgres.url.parse().map_err(|error: tokio_postgres::Error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        format!("the database's URL: {why}; write postgres://USER@HOST/DATABASE")
    })?;
    if config.get_password().is_some() {
        return Err("a password has no place in a scenario; keep it in a file on the node that `passfile` names".into());
    }
    if matches!(config.get_ssl_mode(), SslMode::Require) {
        return Err(
            "TLS to PostgreSQL is not supported; take sslmode out, and reach it by a socket or a network of your own"
                .into(),
        );
    }
    if config.get_hosts().len() != 1 {
        return Err("one host is needed, no more and no fewer; write postgres://USER@HOST/DATABASE".into());
    }
    Ok(config)
}

/// To connect with: the password too, read now.
pub(super) fn config(storage: &Storage, application: &str) -> Result<Config, String> {
    let postgres = storage.postgres.as_ref().ok_or("no database is named")?;
    let mut config = parse(postgres)?;
    config
        .application_name(format!("gauntlet {application}"))
        .connect_timeout(CONNECT_WITHIN)
        .tcp_user_timeout(Duration::from_secs(10))
        .keepalives_idle(Duration::from_secs(10));
    let demanded = postgres.passfile.as_ref().map(PathBuf::from);
    let path = demanded.clone().or_else(|| std::env::var_os("PGPASSFILE").map(PathBuf::from));
    if let Some(path) = path {
        match password(&path, &config)? {
            Some(password) => drop(config.password(password)),
            None if demanded.is_some() => return Err(format!("{} has no line for this database", path.display())),
            None => {}
        }
    }
    Ok(config)
}

fn password(path: &Path, config: &Config) -> Result<Option<String>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(format!("{} can be read by others; chmod 600 it", path.display()));
    }
    if metadata.len() > PASSFILE_BYTES_MAX {
        return Err(format!("{} has {} bytes; at most {PASSFILE_BYTES_MAX}", path.display(), metadata.len()));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        // As libpq has it.
        _ => "localhost".into(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let asked = [&host, &port, config.get_dbname().unwrap_or_default(), config.get_user().unwrap_or_default()];
    Ok(find(&text, asked))
}

/// The password of the first line that fits: `HOST:PORT:DATABASE:USER:PASSWORD`, `*` for any, `\` before `:` and `\`. Source: libpq,
/// "The Password File".
fn find(text: &str, asked: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [host, port, database, user, password] = <[String; 5]>::try_from(fields).ok()?;
        let fits = [host, port, database, user].iter().zip(asked).all(|(field, asked)| field == "*" || field == asked);
        fits.then_some(password)
    })
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut().into_iter().for_each(|field| field.extend(chars.next())),
            c => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postgres(url: &str) -> Postgres {
        Postgres { url: url.into(), passfile: None }
    }

    #[test]
    fn a_database_that_cannot_be_used_is_refused_when_the_file_is_read() {
        assert_eq!(check(&postgres("postgres://me@db:5433/events")), Ok(()));
        assert_eq!(check(&postgres("postgres://me@%2Frun%2Fpostgresql/events")), Ok(()));
        for (url, said) in [
            ("postgres://me@db:port/events", "write postgres://USER@HOST/DATABASE"),
            ("postgres://me@db/events?sslmode=require", "take sslmode out"),
            ("postgres://me@db/events?p%61ssword=secret", "`passfile`"),
            ("postgres://me@a,b/events", "one host is needed"),
            ("postgres://me@db/events?nonsense=1", "nonsense"),
        ] {
            let error = check(&postgres(url)).unwrap_err();
            assert!(error.contains(said) && !error.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn the_password_is_that_of_the_first_line_that_fits() {
        let text = "# a comment\ndb:5433:other:me:wrong\ndb:*:events:me:a\\:b\\\\c:d\n*:*:*:*:last\n";
        assert_eq!(find(text, ["db", "5433", "events", "me"]).as_deref(), Some("a:b\\c:d"));
        assert_eq!(find(text, ["db", "5433", "events", "you"]).as_deref(), Some("last"));
        assert_eq!(find("db:5433:events:me", ["db", "5433", "events", "me"]), None);
    }

    #[test]
    fn a_password_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        let with = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let passfile = Some(path.display().to_string());
            let postgres = Postgres { url: "postgres://me@db/events".into(), passfile };
            config(&Storage { postgres: Some(postgres), ..Storage::default() }, "test")
        };
        assert!(with(0o644).unwrap_err().contains("chmod 600"));
        assert_eq!(with(0o600).unwrap().get_password(), Some(b"secret".as_slice()));
    }
}
