//! A self-signed certificate in files, as Redis reads it.

use std::{fs, path::Path};

use tempfile::TempDir;

/// The files are deleted on drop.
pub(crate) struct Certificate {
    dir: TempDir,
}

impl Certificate {
    /// A certificate for servers on this machine.
    pub(crate) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let signed = rcgen::generate_simple_self_signed(names).unwrap();
        let new = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(new.path(), signed.cert.pem()).unwrap();
        fs::write(new.key_path(), signed.signing_key.serialize_pem()).unwrap();
        new
    }

    pub(crate) fn path(&self) -> String {
        self.file("cert.pem")
    }

    fn key_path(&self) -> String {
        self.file("key.pem")
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The lines of redis.conf that enable TLS with this certificate.
    pub(crate) fn redis_lines(&self) -> String {
        let (cert, key) = (self.path(), self.key_path());
        format!(
            "tls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {cert}\ntls-auth-clients no\n\
             tls-replication yes\n"
        )
    }
}

/// Writes a self-signed certificate for `localhost` to `cert.pem` and `key.pem` in `dir`, and returns it.
pub(crate) fn write_certificate(dir: &Path) -> String {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), signed.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), signed.signing_key.serialize_pem()).unwrap();
    signed.cert.pem()
}
