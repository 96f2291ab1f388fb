//! The certificates in a text, in every form in which secrets hold them.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// How base64 of PEM text begins.
const ENCODED_TWICE: &str = "LS0tLS1CRUdJTi";

/// What a text holds.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// What is wrong with the blocks that are not among them, with their numbers.
    pub(super) complaints: Vec<String>,
}

impl Bundle {
    /// Reads PEM text with one or more certificates; other blocks are passed over.
    ///
    /// Blocks may follow each other without a line end (`cat a.pem b.pem`), and stand on one line,
    /// with blanks or a written `\n` for the line ends (YAML and JSON that was edited by hand).
    pub(super) fn read(text: &str) -> Self {
        let mut bundle = Self::default();
        for (index, block) in text.split(BEGIN).skip(1).enumerate() {
            match certificate(block) {
                Ok(certificate) => bundle.certificates.push(certificate),
                Err(why) => bundle
                    .complaints
                    .push(format!("certificate {} {why}", index + 1)),
            }
        }
        bundle
    }

    /// Why a text without a certificate that can be used holds none.
    pub(super) fn nothing(&self, text: &str) -> String {
        const FORM: &str = "give PEM text, whole blocks from BEGIN CERTIFICATE to END CERTIFICATE";
        if let Some(first) = self.complaints.first() {
            return format!("holds no certificate that can be read: {first}: {FORM}");
        }
        if text.trim_start().starts_with(ENCODED_TWICE) {
            return "is base64 of PEM text: decode it once; in a secret, give it under `data` and not \
                    under `stringData`"
                .to_owned();
        }
        if text.trim().is_empty() {
            return format!("is empty: {FORM}");
        }
        format!("holds no certificate: {FORM}")
    }
}

/// The certificate of a block, from behind its first line.
fn certificate(block: &str) -> Result<CertificateDer<'static>, &'static str> {
    let body = block
        .split_once(END)
        .map(|(body, _)| body)
        .ok_or("has no line END CERTIFICATE")?;
    let body = body.replace("\\r", "").replace("\\n", "");
    let body: String = body.split_whitespace().collect();
    let block = format!("{BEGIN}\n{body}\n{END}\n");
    let certificate = CertificateDer::from_pem_slice(block.as_bytes())
        .map_err(|_| "is damaged: it is not base64")?;
    RootCertStore::empty()
        .add(certificate.clone())
        .map_err(|_| "is not an X.509 certificate, or damaged")?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use testkit::pki::Authority;

    use super::*;

    fn pem(name: &str) -> (String, CertificateDer<'static>) {
        let authority = Authority::new(name);
        (authority.pem(), authority.der())
    }

    #[test]
    fn every_form_of_a_bundle_holds_its_certificates() {
        let ((a, a_der), (b, b_der)) = (pem("a"), pem("b"));
        let one_line = |pem: &str| pem.trim().replace('\n', " ");
        let written = |pem: &str| pem.trim().replace('\n', "\\n");
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for text in [
            format!("{a}{b}"),
            // `cat a.pem b.pem`, where the first has no line end.
            format!("{}{}", a.trim_end(), b.trim_end()),
            format!("\u{feff}{a}\n\n  {b}"),
            format!("# comment\n{a}{key}more words {b}"),
            format!("{a}{b}").replace('\n', "\r\n"),
            format!("{} {}", one_line(&a), one_line(&b)),
            format!("{}\\n{}", written(&a), written(&b)),
            format!(
                "\"{}\\r\\n{}\"",
                written(&a).replace("\\n", "\\r\\n"),
                written(&b)
            ),
            format!("    {}", format!("{a}{b}").replace('\n', "\n    ")),
        ] {
            let bundle = Bundle::read(&text);
            assert_eq!(bundle.complaints, [""; 0], "{text}");
            assert_eq!(
                bundle.certificates,
                [a_der.clone(), b_der.clone()],
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_others_are_used() {
        let ((a, a_der), (b, b_der)) = (pem("a"), pem("b"));
        let broken = format!("{BEGIN}\nAAAA\n{END}\n");
        let cut = a.replace(END, "");
        let letters = a.replace('M', "\u{e9}");
        for (text, held, number, words) in [
            (
                format!("{a}{broken}{b}"),
                vec![&a_der, &b_der],
                "2",
                "not an X.509",
            ),
            (format!("{cut}{b}"), vec![&b_der], "1", "no line END"),
            (format!("{b}{letters}"), vec![&b_der], "2", "not base64"),
            (
                format!("{a}{}", b.replace(END, "")),
                vec![&a_der],
                "2",
                "no line END",
            ),
        ] {
            let bundle = Bundle::read(&text);
            assert!(bundle.certificates.iter().eq(held), "{text}");
            let [complaint] = bundle.complaints.as_slice() else {
                panic!("{:?}", bundle.complaints);
            };
            assert!(
                complaint.starts_with(&format!("certificate {number} ")),
                "{complaint}"
            );
            assert!(complaint.contains(words), "{complaint}");
        }
    }

    #[test]
    fn a_text_without_a_certificate_says_what_it_is() {
        let encoded = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUM=";
        for (text, words) in [
            ("rubbish", "holds no certificate: give PEM text"),
            (" \n", "is empty: give PEM text"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "holds no certificate:",
            ),
            (encoded, "is base64 of PEM text"),
            (
                "-----BEGIN CERTIFICATE-----\nMII",
                "certificate 1 has no line END",
            ),
        ] {
            let bundle = Bundle::read(text);
            assert!(bundle.certificates.is_empty());
            let why = bundle.nothing(text);
            assert!(why.contains(words), "{why}");
            testkit::plain::assert_plain(&why);
        }
    }
}
