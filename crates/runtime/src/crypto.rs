//! The one provider of cryptography.

/// Makes aws-lc-rs rustls' default of this process. The first call decides; later ones change
/// nothing.
pub fn install() {
    // An error says that a default is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
