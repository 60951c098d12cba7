//! Links the speech recogniser of the local agent, when that feature is on. Nothing else here needs a build step.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "local-agent")]
    link_pocketsphinx();
}

/// Finds libpocketsphinx and its English model the way Debian installs them: through pkg-config.
#[cfg(feature = "local-agent")]
fn link_pocketsphinx() {
    const HELP: &str = "the feature `local-agent` needs libpocketsphinx-dev and pocketsphinx-en-us; \
                        build with --no-default-features to do without";
    // Not the emitted list of pkg-config: that one also asks for the sound-card library, which a server has no use for.
    let library = pkg_config::Config::new()
        .cargo_metadata(false)
        .probe("pocketsphinx")
        .expect(HELP);
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    println!("cargo::rustc-link-lib=pocketsphinx");
    println!("cargo::rustc-link-lib=sphinxbase");
    let models = pkg_config::get_variable("pocketsphinx", "modeldir").expect(HELP);
    println!("cargo::rustc-env=TANDEM_POCKETSPHINX_MODELS={models}");
}
