//! `cargo xtask setup`: installs the real peers that the tests talk to, once, outside the work tree.
//!
//! Everything goes to `~/.cache/spanledger/tools` (or `SPANLEDGER_TOOLS_DIR`), pinned by the manifests in
//! `tests/clients/`: a Python environment, a folder of npm packages (a Node.js among them, for the host's
//! may be older than what the MCP Inspector needs). Chromium and OpenSSL are Debian's; `cargo-nextest` is Cargo's.
//! Idempotent: a folder whose stamp equals its manifest is left alone. What cannot be installed is an
//! error with a message, never a skipped test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, cargo, in_root, on_path, root};

/// Where Debian puts its browser; the tests start it from here.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Installs what is missing.
pub fn run() -> Result<()> {
    let tools = &tools_dir()?;
    fs::create_dir_all(tools).with_context(|| format!("could not make {}", tools.display()))?;
    nextest()?;
    python(tools).context("the Python peers (OpenTelemetry SDK, deltalake) could not be installed")?;
    npm(tools).context("the npm peers (OpenTelemetry exporters, MCP Inspector, Playwright) could not be installed")?;
    chromium().context("Chromium could not be installed")?;
    openssl().context("OpenSSL could not be installed")?;
    println!("the tests' peers are in {}", tools.display());
    Ok(())
}

/// Folder of the installed peers. `testkit::tools` looks in the same place.
fn tools_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("SPANLEDGER_TOOLS_DIR") {
        return Ok(dir.into());
    }
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither HOME nor XDG_CACHE_HOME is set")?).join(".cache")
        }
    };
    Ok(cache.join("spanledger/tools"))
}

fn nextest() -> Result<()> {
    if on_path("cargo-nextest") {
        return Ok(());
    }
    command::run(cargo().args(["install", "cargo-nextest", "--locked"]))
}

fn python(tools: &Path) -> Result<()> {
    let requirements = root().join("tests/clients/requirements.txt");
    let home = tools.join("python");
    install_once(&home, &[&requirements], |home| {
        ensure!(
            on_path("python3"),
            "python3 is not on the PATH; install Python 3.10 or newer with its venv module"
        );
        command::run(in_root("python3").args(["-m", "venv", "--clear"]).arg(home))?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ];
        command::run(in_root(home.join("bin/python")).args(pip).arg(&requirements))
    })
}

fn npm(tools: &Path) -> Result<()> {
    let clients = root().join("tests/clients");
    let manifests = [
        clients.join("package.json"),
        clients.join("package-lock.json"),
        clients.join(".npmrc"),
    ];
    let home = tools.join("npm");
    install_once(&home, &[&manifests[0], &manifests[1]], |home| {
        ensure!(
            on_path("npm"),
            "npm is not on the PATH; install Node.js 20 or newer with npm"
        );
        fs::create_dir_all(home)?;
        for manifest in &manifests {
            fs::copy(manifest, home.join(manifest.file_name().unwrap_or_default()))?;
        }
        command::run(
            in_root("npm")
                .args(["ci", "--ignore-scripts", "--loglevel", "error"])
                .current_dir(home),
        )
    })
}

fn chromium() -> Result<()> {
    debian("chromium", || Path::new(CHROMIUM).exists())
}

/// Makes the certificate of the authorization server's test.
fn openssl() -> Result<()> {
    debian("openssl", || on_path("openssl"))
}

/// Installs a Debian package unless what it brings is there.
fn debian(package: &str, is_there: impl Fn() -> bool) -> Result<()> {
    if is_there() {
        return Ok(());
    }
    ensure!(
        on_path("apt-get"),
        "{package} is missing and there is no apt-get; install it"
    );
    command::run(in_root("apt-get").args(["update", "--quiet"]))?;
    let install = ["install", "--yes", "--quiet", "--no-install-recommends", package];
    command::run(
        in_root("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(install),
    )?;
    ensure!(
        is_there(),
        "the package {package} was installed and does not bring what the tests start"
    );
    Ok(())
}

/// Runs `install` unless the folder's stamp says that it was made from just these manifests. The stamp is
/// written last, so an installation that broke off is made again.
fn install_once(home: &Path, manifests: &[&Path], install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut wanted = String::new();
    for manifest in manifests {
        wanted += &fs::read_to_string(manifest).with_context(|| format!("could not read {}", manifest.display()))?;
    }
    let stamp = home.join(".installed");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("could not clear {}", home.display()))?;
    }
    install(home)?;
    fs::write(&stamp, wanted).with_context(|| format!("could not write {}", stamp.display()))
}
