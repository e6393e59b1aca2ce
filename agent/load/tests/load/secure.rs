//! Targets over TLS: verified unless the scenario says otherwise.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;

use gauntlet_common::snapshot::ErrorClass;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;

use crate::support::{Told, plan, run_one};

/// A server with a certificate of its own making for 127.0.0.1; its port and the certificate as PEM.
fn server() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_string()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            std::thread::spawn(move || serve(rustls::StreamOwned::new(session, stream)));
        }
    });
    (port, made.cert.pem())
}

fn serve(stream: rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|n| n > 0) {
        if line == "\r\n" {
            let body = "x".repeat(40_000);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        line.clear();
    }
}

fn ask(port: u16, settings: serde_json::Value) -> Told {
    let workload = json!({
        "driver": "http", "target": format!("https://127.0.0.1:{port}"), "settings": settings, "timeout": "2s",
        "flow": [{ "get": { "path": "/", "name": "a", "expect": { "body_contains": "xxx" } } }],
        "load": { "p": { "iterations": 20, "users": 2 } }
    });
    run_one(&plan(800, 1, workload, &[]))
}

#[test]
fn a_target_over_tls_is_verified_by_the_named_authority_and_not_at_all_only_when_told() {
    let (port, pem) = server();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    assert_eq!(ask(port, json!({ "insecure": true })).count(0, true), 20);
    assert_eq!(ask(port, json!({ "ca_file": file })).count(0, true), 20);
    let (other_port, _) = server();
    let refused = ask(other_port, json!({ "ca_file": file }));
    assert_eq!((refused.count(0, true), refused.errors(ErrorClass::Connect)), (0, 20));
}
