//! A private CA, and certificates for one coordinator and any number of agents. On disk for a fleet, in memory for the
//! embedded cluster: mutual TLS always, the same code path.
//!
//! Layout: `ca.pem`, `ca.key`, `coordinator.pem`, `coordinator.key`, `agents/NAME.pem`, `agents/NAME.key`; keys mode 0600.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gauntlet_agent::config::{Credentials, valid_name};
use gauntlet_agent::identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{}: {why}", .path.display())]
    File { path: PathBuf, why: String },
    #[error("{} already holds a CA; issue from it, or choose another folder: a new CA would lock its agents out", .0.display())]
    Exists(PathBuf),
    #[error("`{0}` cannot name an agent: lower-case letters, digits and dashes, at most 63")]
    Name(String),
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

fn params(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn ca() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "gauntlet CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn issue_from(
    ca_pem: &str,
    issuer: &Issuer<'_, KeyPair>,
    dns_name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Credentials, rcgen::Error> {
    let mut params = params(dns_name)?;
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, issuer)?;
    Ok(Credentials { ca: ca_pem.into(), cert: cert.pem(), key: key.serialize_pem() })
}

fn issue_coordinator(ca_pem: &str, issuer: &Issuer<'_, KeyPair>) -> Result<Credentials, rcgen::Error> {
    issue_from(ca_pem, issuer, identity::COORDINATOR, ExtendedKeyUsagePurpose::ClientAuth)
}

fn issue_agent(ca_pem: &str, issuer: &Issuer<'_, KeyPair>, name: &str) -> Result<Credentials, rcgen::Error> {
    issue_from(ca_pem, issuer, &identity::agent_dns_name(name), ExtendedKeyUsagePurpose::ServerAuth)
}

/// A CA for one run, which never touches a disk: the coordinator's credentials, then one for each name.
pub fn in_memory(names: &[String]) -> Result<(Credentials, Vec<Credentials>), PkiError> {
    let ca = ca()?;
    let pem = ca.pem();
    let coordinator = issue_coordinator(&pem, &ca)?;
    let agents = names.iter().map(|name| issue_agent(&pem, &ca, name)).collect::<Result<_, _>>()?;
    Ok((coordinator, agents))
}

/// Makes a CA and the coordinator's certificate in a folder that has none.
pub fn init(dir: &Path) -> Result<(), PkiError> {
    if dir.join("ca.pem").exists() || dir.join("ca.key").exists() {
        return Err(PkiError::Exists(dir.into()));
    }
    make_dir(&dir.join("agents"))?;
    let ca = ca()?;
    let pem = ca.pem();
    let coordinator = issue_coordinator(&pem, &ca)?;
    write(&dir.join("ca.key"), &ca.key().serialize_pem(), 0o600)?;
    write(&dir.join("ca.pem"), &pem, 0o644)?;
    write(&dir.join("coordinator.key"), &coordinator.key, 0o600)?;
    write(&dir.join("coordinator.pem"), &coordinator.cert, 0o644)
}

/// Issues a certificate for an agent from the folder's CA, replacing one of that name.
pub fn issue(dir: &Path, name: &str) -> Result<PathBuf, PkiError> {
    if !valid_name(name) {
        return Err(PkiError::Name(name.into()));
    }
    let ca_pem = read(&dir.join("ca.pem"))?;
    let key = KeyPair::from_pem(&read(&dir.join("ca.key"))?)?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, key)?;
    let agent = issue_agent(&ca_pem, &issuer, name)?;
    let cert = dir.join("agents").join(format!("{name}.pem"));
    make_dir(&dir.join("agents"))?;
    write(&cert.with_extension("key"), &agent.key, 0o600)?;
    write(&cert, &agent.cert, 0o644)?;
    Ok(cert)
}

/// The coordinator's credentials of a folder.
pub fn coordinator(dir: &Path) -> Result<Credentials, PkiError> {
    Ok(Credentials {
        ca: read(&dir.join("ca.pem"))?,
        cert: read(&dir.join("coordinator.pem"))?,
        key: read(&dir.join("coordinator.key"))?,
    })
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path)
        .map_err(|e| PkiError::File { path: path.into(), why: format!("{e} (`coordinator pki init DIR` makes it)") })
}

fn make_dir(path: &Path) -> Result<(), PkiError> {
    std::fs::create_dir_all(path).map_err(|e| PkiError::File { path: path.into(), why: e.to_string() })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let fail = |e: std::io::Error| PkiError::File { path: path.into(), why: e.to_string() };
    // A key must never be readable by others, not for a moment: made anew with its mode, never widened.
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fail)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_issues_agents_and_never_loses_its_ca() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        issue(dir.path(), "n1").unwrap();
        assert!(matches!(init(dir.path()), Err(PkiError::Exists(_))));
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("ca.key"), mode("agents/n1.key")), (0o600, 0o600));
        assert!(issue(dir.path(), "../x").unwrap_err().to_string().contains("cannot name"));
        let missing = issue(&dir.path().join("no"), "n1").unwrap_err().to_string();
        assert!(missing.contains("pki init"), "{missing}");
    }
}
