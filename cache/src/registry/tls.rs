//! TLS with ring, and the CA certificates: those given, the machine's, or a built-in set, read when first needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use super::RegistryError;
use super::certificates::{Certificates, failed};
use super::transport::Trust;

/// Where distributions keep the bundle of CA certificates.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// The only place that names the provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS for one kind of trust; CA certificates are read for [`Trust::Verified`] alone. What is kept for the host counts
/// beside the machine's.
pub(super) fn config(
    trust: Trust,
    ca_files: &[PathBuf],
    certificates: &Certificates,
) -> Result<ClientConfig, RegistryError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(RegistryError::Tls)?;
    let builder = match trust {
        Trust::Plain => builder.with_root_certificates(RootCertStore::empty()),
        Trust::Verified => {
            let mut roots = roots(ca_files)?;
            add_files(&mut roots, &certificates.authorities)?;
            builder.with_root_certificates(roots)
        }
        Trust::Unverified => {
            let verifier = Arc::new(AnyCertificate(provider()));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    if certificates.own.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let keys = certificates.own.iter().map(|(certificate, key)| certified(certificate, key).map(Arc::new));
    Ok(builder.with_client_cert_resolver(Arc::new(Own(keys.collect::<Result<_, _>>()?))))
}

/// A certificate of ours, with its chain and its key.
fn certified(certificate: &Path, key: &Path) -> Result<CertifiedKey, RegistryError> {
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| failed(certificate, error))?;
    if chain.is_empty() {
        return Err(failed(certificate, "no certificate is in it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, error))?;
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| failed(certificate, error))
}

/// Our certificates for a host. As with Docker, the first that one of the authorities named by the server has signed is
/// shown; none where there is no such one.
#[derive(Debug)]
struct Own(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Own {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let is_signed = |key: &CertifiedKey| {
            // One that cannot be read is left for the server to judge.
            let by = |cert: &CertificateDer<'_>| issuer(cert).is_none_or(|it| authorities.contains(&it.as_ref()));
            authorities.is_empty() || key.cert.iter().any(by)
        };
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some() && is_signed(key)).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The name of who signed a certificate, in DER.
fn issuer(certificate: &CertificateDer<'_>) -> Option<DistinguishedName> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(DistinguishedName::in_sequence(parsed.issuer()))
}

fn add_files(store: &mut RootCertStore, files: &[PathBuf]) -> Result<(), RegistryError> {
    for path in files {
        let failed = |source| RegistryError::Roots { path: path.display().to_string(), source };
        let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
        store.add_parsable_certificates(certificates.collect::<Result<Vec<_>, _>>().map_err(failed)?);
    }
    Ok(())
}

fn roots(ca_files: &[PathBuf]) -> Result<RootCertStore, RegistryError> {
    let mut store = RootCertStore::empty();
    add_files(&mut store, ca_files)?;
    if ca_files.is_empty() {
        let readable = |path: &str| CertificateDer::pem_file_iter(Path::new(path)).ok();
        if let Some(certificates) = BUNDLES.iter().find_map(|path| readable(path)) {
            store.add_parsable_certificates(certificates.flatten());
        }
        if store.is_empty() {
            store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
    }
    Ok(store)
}

/// Takes any certificate, as asked for hosts marked insecure; the handshake's signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
