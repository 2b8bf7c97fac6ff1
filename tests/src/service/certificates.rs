//! An authority of a test's own and what it signs, as PEM files.
//!
//! An authority and leaves, never one certificate for both: clients refuse that.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, KeyUsage, SubjectAlternativeName},
    },
};

const DAY: i64 = 86_400;

/// An authority.
pub struct Authority {
    dir: PathBuf,
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    /// Makes one, with `ca.pem` in `dir`.
    ///
    /// # Errors
    /// OpenSSL's, or the file cannot be written.
    pub fn new(dir: &Path) -> Result<Self> {
        let key = key()?;
        // Two authorities with one name cannot both be trusted: only the first of them is asked.
        let name = format!(
            "authority {:08x}",
            RandomState::new().hash_one(()) & 0xffff_ffff
        );
        let mut builder = builder(&name, &key, 0, 10 * DAY)?;
        let mut critical = BasicConstraints::new();
        builder.append_extension(critical.critical().ca().build()?)?;
        let mut usage = KeyUsage::new();
        builder.append_extension(usage.critical().key_cert_sign().crl_sign().build()?)?;
        builder.set_issuer_name(&*builder_name(&name)?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        let certificate = builder.build();
        fs::create_dir_all(dir)?;
        fs::write(dir.join("ca.pem"), certificate.to_pem()?)?;
        Ok(Self {
            dir: dir.to_owned(),
            key,
            certificate,
        })
    }

    /// Writes `NAME.pem`: a key and the certificate of `host`, valid from yesterday for so many days;
    /// for none it has expired.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn sign(&self, name: &str, host: &str, days: i64) -> Result<()> {
        let key = key()?;
        let end = if days == 0 { -60 } else { days * DAY };
        let mut builder = builder(name, &key, -DAY, end)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        let mut names = SubjectAlternativeName::new();
        if host.parse::<std::net::IpAddr>().is_ok() {
            names.ip(host);
        } else {
            names.dns(host);
        }
        let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
        builder.append_extension(names)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        let mut pem = key.private_key_to_pem_pkcs8()?;
        pem.extend(builder.build().to_pem()?);
        pem.extend(self.certificate.to_pem()?);
        fs::write(self.dir.join(format!("{name}.pem")), pem)?;
        Ok(())
    }
}

fn key() -> Result<PKey<Private>> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

fn builder_name(name: &str) -> Result<openssl::x509::X509Name> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_text("CN", name)?;
    Ok(builder.build())
}

/// Everything but issuer, extensions and signature; times in seconds from now.
fn builder(name: &str, key: &PKey<Private>, from: i64, to: i64) -> Result<X509Builder> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&*builder_name(name)?)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::from_unix(now + from)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(now + to)?)?;
    Ok(builder)
}
