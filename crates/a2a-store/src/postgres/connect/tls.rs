//! TLS towards Postgres: which certificates are accepted.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::database_url::RootCertificates;

/// What is checked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verification {
    /// Nothing but that the server has the key of the certificate it shows.
    None,
    /// That a trusted CA signed it.
    Chain,
    /// That a trusted CA signed it, for the host that was asked for.
    Full,
}

/// Why no certificate can be checked.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsSetupError {
    #[error("can't read certificates from sslrootcert={path}")]
    RootFile {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("sslrootcert={path} contains no certificate in PEM form")]
    RootFileEmpty { path: PathBuf },
    #[error("sslrootcert={path} contains a certificate that can't be used as a root")]
    RootInvalid {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("the operating system has no trusted certificates; install its CA certificates package")]
    SystemEmpty,
    #[error("TLS can't be set up")]
    Rustls(#[from] rustls::Error),
    #[error("the certificates could not be loaded")]
    Loading(#[from] tokio::task::JoinError),
}

/// The TLS settings of one URL, made when they are first needed: loading the system's certificates takes
/// milliseconds, and a connection to this machine does not need them.
///
/// A failure is not kept, so that a certificate file which was repaired is seen without a restart.
#[derive(Default)]
pub(crate) struct TlsConnectors {
    none: OnceLock<MakeRustlsConnect>,
    chain: OnceLock<MakeRustlsConnect>,
    full: OnceLock<MakeRustlsConnect>,
}

impl TlsConnectors {
    /// Whether none has been made yet.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        [&self.none, &self.chain, &self.full].iter().all(|cell| cell.get().is_none())
    }

    /// Gives the connector, or nothing where TLS is not wanted.
    pub(super) async fn get(
        &self,
        verification: Option<Verification>,
        roots: &RootCertificates,
    ) -> Result<Option<MakeRustlsConnect>, TlsSetupError> {
        let Some(verification) = verification else { return Ok(None) };
        let cell = match verification {
            Verification::None => &self.none,
            Verification::Chain => &self.chain,
            Verification::Full => &self.full,
        };
        if let Some(connector) = cell.get() {
            return Ok(Some(connector.clone()));
        }
        let roots = roots.clone();
        let connector = tokio::task::spawn_blocking(move || build(verification, &roots)).await??;
        // When two tasks got here together, both use the first one's: sessions are resumed within a connector.
        Ok(Some(cell.get_or_init(|| connector).clone()))
    }
}

fn build(verification: Verification, roots: &RootCertificates) -> Result<MakeRustlsConnect, TlsSetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(verification, roots, &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // Needed for sslnegotiation=direct, where no other message says which protocol is spoken.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

/// Checks certificates as far as the policy asks for. Handshake signatures are always checked: without them,
/// a recorded certificate would do.
#[derive(Debug)]
struct Verifier {
    verification: Verification,
    roots: RootCertStore,
    /// The certificates of `sslrootcert`, as they are.
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(
        verification: Verification,
        wanted: &RootCertificates,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsSetupError> {
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        if verification != Verification::None {
            if let RootCertificates::File(path) = wanted {
                pinned = read_roots(path)?;
                for certificate in &pinned {
                    roots
                        .add(certificate.clone())
                        .map_err(|source| TlsSetupError::RootInvalid { path: path.clone(), source })?;
                }
            }
            // Public CAs never count for the chain alone, where a certificate of any host in the world would do.
            if verification == Verification::Full && *wanted != RootCertificates::System {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            if verification == Verification::Full {
                // Certificates that can't be parsed are left out, as everywhere: system stores contain some.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            if roots.is_empty() {
                return Err(TlsSetupError::SystemEmpty);
            }
        }
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { verification, roots, pinned, algorithms })
    }

    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let roots = &self.roots;
        let algorithms = self.algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(parsed, roots, intermediates, now, algorithms) {
            // A self-signed certificate as openssl makes it by default is a CA, which may not be a server at the
            // same time. Given as sslrootcert it is trusted as it is. This error comes after the check of its
            // dates, so that an expired one does not get here.
            Err(error) if is_ca_as_server(&error) && self.pinned.iter().any(|pinned| pinned == certificate) => Ok(()),
            result => result,
        }
    }
}

/// The crate below keeps this case in a type that is not exported, so that only its text can tell.
pub(super) fn is_ca_as_server(error: &rustls::Error) -> bool {
    format!("{error:?}").contains("CaUsedAsEndEntity")
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.verification != Verification::None {
            let parsed = ParsedCertificate::try_from(certificate)?;
            self.verify_chain(certificate, &parsed, intermediates, now)?;
            if self.verification == Verification::Full {
                verify_server_name(&parsed, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let failed = |source| TlsSetupError::RootFile { path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if certificates.is_empty() {
        return Err(TlsSetupError::RootFileEmpty { path: path.to_owned() });
    }
    Ok(certificates)
}

type Connect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;

/// A connector that remembers whether TLS was used, which the driver does not tell.
#[derive(Clone)]
pub(crate) struct Recording {
    connector: Option<MakeRustlsConnect>,
    used: Arc<AtomicBool>,
}

impl Recording {
    pub(super) fn new(connector: Option<MakeRustlsConnect>) -> Self {
        Self { connector, used: Arc::default() }
    }

    /// Whether the server agreed to TLS. The handshake may have failed after that.
    pub(super) fn used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

impl MakeTlsConnect<Socket> for Recording {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = RecordingConnect;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Infallible> {
        let connect = match &mut self.connector {
            Some(connector) => Some(MakeTlsConnect::<Socket>::make_tls_connect(connector, host)?),
            None => None,
        };
        Ok(RecordingConnect { connect, used: Arc::clone(&self.used) })
    }
}

/// One handshake of [`Recording`].
pub(crate) struct RecordingConnect {
    connect: Option<Connect>,
    used: Arc<AtomicBool>,
}

impl TlsConnect<Socket> for RecordingConnect {
    type Stream = <Connect as TlsConnect<Socket>>::Stream;
    type Error = io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = io::Result<Self::Stream>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        self.used.store(true, Ordering::Relaxed);
        match self.connect {
            Some(connect) => Box::pin(connect.connect(stream)),
            None => Box::pin(std::future::ready(Err(io::Error::other("TLS is switched off")))),
        }
    }
}
