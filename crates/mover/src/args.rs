//! The arguments that both movers take, in groups. Names come from [`contract::args`].

use std::{
    ffi::OsString, net::SocketAddr, num::NonZeroUsize, path::PathBuf, process::ExitCode,
    time::Duration,
};

use clap::{ArgAction, Args, Parser, ValueEnum, builder::RangedU64ValueParser};
use contract::{
    Exit, Termination,
    args::{environment, flag},
    termination,
};
use net::LeastRate;
use runtime::{Redactor, args, logging::Format};
use tracing::Level;

use crate::{duration, end, rate};

/// Everything but the source's own arguments. Flatten it into a binary's parser, after them.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What receives the disk.
    #[command(flatten)]
    pub target: TargetArguments,
    /// How the bytes are moved.
    #[command(flatten)]
    pub transfer: TransferArguments,
    /// Where the source may lead.
    #[command(flatten)]
    pub egress: EgressArguments,
    /// Where secrets are found.
    #[command(flatten)]
    pub credentials: CredentialArguments,
    /// How the process behaves.
    #[command(flatten)]
    pub run: RunArguments,
    /// What Forklift's controller passes.
    #[command(flatten)]
    pub kubernetes: KubernetesArguments,
}

impl Arguments {
    /// Whether a controller started the process: it names a populator resource.
    #[must_use]
    pub fn started_by_controller(&self) -> bool {
        is_given(self.kubernetes.cr_name.as_deref())
    }

    /// Whether an existing file may be overwritten: asked for, or a controller's volume.
    #[must_use]
    pub fn may_overwrite(&self) -> bool {
        self.target.force || self.started_by_controller()
    }

    /// Where metrics are served, if at all. Off unless asked for or started by a controller.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        match self.run.metrics_address {
            Some(MetricsAddress::At(address)) => Some(address),
            None if self.started_by_controller() => contract::args::METRICS_ADDRESS.parse().ok(),
            Some(MetricsAddress::Off) | None => None,
        }
    }

    /// Whether the metrics were asked for by a flag, rather than by default.
    #[must_use]
    pub const fn metrics_are_asked_for(&self) -> bool {
        self.run.metrics_address.is_some()
    }

    /// The file that receives the termination message, if any.
    ///
    /// Without a flag: Kubernetes' own, when it exists and a controller started the process.
    #[must_use]
    pub fn termination_log(&self) -> Option<PathBuf> {
        match &self.run.termination_log {
            Some(path) if path.as_os_str() == "off" => None,
            Some(path) => Some(path.clone()),
            None => Some(PathBuf::from(termination::DEFAULT_PATH))
                .filter(|path| self.started_by_controller() && path.exists()),
        }
    }

    /// How log lines look.
    #[must_use]
    pub fn log_format(&self) -> Format {
        if self.run.json {
            Format::Json
        } else {
            self.run.log_format
        }
    }

    /// How much is logged: the flag's level, raised by `-v` (debug) and `-vv` (trace).
    #[must_use]
    pub fn log_level(&self) -> Level {
        let raised = match self.run.verbose {
            0 => Level::ERROR,
            1 => Level::DEBUG,
            _ => Level::TRACE,
        };
        self.run.log_level.max(raised)
    }

    /// UID of the claim; empty when none was given.
    #[must_use]
    pub fn owner_uid(&self) -> &str {
        self.kubernetes.owner_uid.as_deref().unwrap_or_default()
    }
}

/// What receives the disk.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
pub struct TargetArguments {
    /// Block device, or file, that receives the disk
    #[arg(long = flag::VOLUME_PATH, value_name = "PATH")]
    pub volume_path: PathBuf,

    /// Overwrite an existing file
    #[arg(long = flag::FORCE)]
    pub force: bool,
}

/// How the bytes are moved.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Transfer")]
pub struct TransferArguments {
    /// Connections that read data, 1 to 64; the source may allow fewer
    #[arg(long = flag::CONNECTIONS, value_name = "N", default_value_t = 4,
          value_parser = RangedU64ValueParser::<u8>::new().range(1..=64))]
    connections: u8,

    /// What is compared with the source: auto (what costs no second reading), full, or off
    #[arg(long = flag::VERIFY, value_name = "HOW", default_value = "auto", hide_possible_values = true)]
    pub verify: Verify,

    /// Whether zero blocks inside data become holes, so that a thin volume stays thin
    #[arg(long = flag::DETECT_ZEROES, value_name = "on|off", default_value = "on", hide_possible_values = true)]
    pub detect_zeroes: Switch,

    /// Give up after this long without a byte from the source
    #[arg(long = flag::NO_PROGRESS_TIMEOUT, alias = flag::PATIENCE, value_name = "DURATION", default_value = "10m",
          value_parser = at_least_a_second)]
    pub no_progress_timeout: Duration,

    /// Replace a connection after this long without a byte on it
    #[arg(long = flag::STALL_TIMEOUT, value_name = "DURATION", default_value = "30s", value_parser = at_least_a_second)]
    pub stall_timeout: Duration,

    /// Take a source that gives fewer bytes than this for one that gives none: SIZE/TIME, or off
    #[arg(long = flag::MIN_RATE, env = environment::MIN_RATE, hide_env_values = true,
          value_name = "RATE", default_value = "64KiB/5m", value_parser = rate::parse)]
    pub min_rate: LeastRate,
}

impl TransferArguments {
    /// Connections that read data.
    #[must_use]
    pub fn connections(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.connections.into()).unwrap_or(NonZeroUsize::MIN)
    }
}

/// Where the source may lead.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Network")]
pub struct EgressArguments {
    /// Follow an https server's catalog, ticket or redirect to plain http
    #[arg(long = flag::ALLOW_PLAIN_HTTP, env = environment::ALLOW_PLAIN_HTTP, hide_env_values = true,
          value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_value = "", default_missing_value = "true", hide_default_value = true,
          value_parser = switch)]
    pub allow_plain_http: bool,

    /// Follow a server to loopback, link-local and metadata addresses, for clouds that run there
    #[arg(long = flag::ALLOW_LOCAL_TARGETS, env = environment::ALLOW_LOCAL_TARGETS, hide_env_values = true,
          value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_value = "", default_missing_value = "true", hide_default_value = true,
          value_parser = switch)]
    pub allow_local_targets: bool,
}

/// Where secrets are found.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Credentials")]
pub struct CredentialArguments {
    /// Folder with one file per key; without it, keys are environment variables of the same names
    #[arg(long = flag::SECRET_DIR, value_name = "DIR")]
    pub secret_dir: Option<PathBuf>,

    /// PEM file of authorities to trust beside the system's; not used where the secret has a cacert
    #[arg(long = flag::CA_BUNDLE, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
}

/// How the process behaves.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Run")]
pub struct RunArguments {
    /// Test credentials, source, target and connections, and write nothing; --check=transfer also
    /// makes and ends a transfer, which locks the disk for a moment
    #[arg(long = flag::CHECK, value_name = "transfer", num_args = 0..=1, require_equals = true,
          default_missing_value = "preflight", hide_possible_values = true)]
    pub check: Option<Check>,

    /// Form of the log lines: text or json
    #[arg(long = flag::LOG_FORMAT, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    log_format: Format,

    /// Short for --log-format=json
    #[arg(long = flag::JSON)]
    json: bool,

    /// Lowest level that is logged: error, warn, info, debug or trace
    #[arg(long = flag::LOG_LEVEL, value_name = "LEVEL", default_value = "info", hide_possible_values = true,
          value_parser = args::log_level())]
    log_level: Level,

    /// Log more: -v debug, -vv trace
    #[arg(short = 'v', action = ArgAction::Count)]
    verbose: u8,

    /// Serve metrics over HTTPS at ADDRESS:PORT or :PORT, or not at all (off)
    /// [default: off; [::]:8443 when a controller started the process]
    #[arg(long = flag::METRICS_ADDRESS, value_name = "ADDRESS", value_parser = parse_metrics_address)]
    metrics_address: Option<MetricsAddress>,

    /// Keep metrics up for at most this long after success, until a scrape has seen the end
    #[arg(long = flag::METRICS_LINGER, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub metrics_linger: Duration,

    /// File that receives the result as one line of JSON, or off
    /// [default: /dev/termination-log when a controller started the process]
    #[arg(long = flag::TERMINATION_LOG, value_name = "FILE")]
    termination_log: Option<PathBuf>,
}

/// What Forklift's controller passes; accepted as it is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kubernetes compatibility")]
pub struct KubernetesArguments {
    /// Name of the secret; used in messages only
    #[arg(long = flag::SECRET_NAME, value_name = "NAME")]
    pub secret_name: Option<String>,

    /// Name of the populator resource; says that a controller started the process
    #[arg(long = flag::CR_NAME, value_name = "NAME")]
    pub cr_name: Option<String>,

    /// Namespace of the populator resource
    #[arg(long = flag::CR_NAMESPACE, value_name = "NAMESPACE")]
    pub cr_namespace: Option<String>,

    /// Size of the claim; ignored, since progress counts the source's bytes
    #[arg(long = flag::PVC_SIZE, value_name = "BYTES")]
    pub pvc_size: Option<String>,

    /// UID of the claim, the label of the progress metric
    #[arg(long = flag::OWNER_UID, value_name = "UID")]
    pub owner_uid: Option<String>,
}

/// What is compared with the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verify {
    /// What costs no second reading anywhere.
    Auto,
    /// Everything the source can state, also what it must read the disk for.
    Full,
    /// No digest is compared.
    Off,
}

/// Value of a flag that is `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// The feature is used.
    On,
    /// The feature is not used.
    Off,
}

/// How far a preflight goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// Nothing is changed anywhere.
    Preflight,
    /// A transfer is made and ended as well; the disk is locked for a moment.
    Transfer,
}

/// Value of `--metrics-address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAddress {
    /// Metrics are not served.
    Off,
    /// Metrics are served at this address.
    At(SocketAddr),
}

/// Parses the process's arguments.
///
/// # Errors
/// The exit code, when the process ends here: 0 after `--help` and `--version`, 2 after a message
/// about what is wrong with the arguments.
pub fn parse<P: Parser>() -> Result<P, ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    P::try_parse_from(&arguments).map_err(|error| {
        // With standard error closed, the exit code has to do.
        let _ = error.print();
        if !error.use_stderr() {
            return Exit::Success.into();
        }
        if let Some(path) = termination_log_of_malformed(&arguments) {
            let message = Termination::new(Exit::Usage, error.to_string());
            // The secrets are not read yet.
            end::write_termination(&path, &Redactor::new(), message);
        }
        Exit::Usage.into()
    })
}

/// Where the message goes although the arguments could not be parsed: a controller that passes a
/// flag which this version does not know must learn it from somewhere.
fn termination_log_of_malformed(arguments: &[OsString]) -> Option<PathBuf> {
    let value_of = |name: &str| {
        arguments.iter().find_map(|argument| {
            argument
                .to_str()?
                .strip_prefix("--")?
                .strip_prefix(name)?
                .strip_prefix('=')
        })
    };
    match value_of(flag::TERMINATION_LOG) {
        Some("off") => None,
        Some(path) => Some(path.into()),
        None => Some(PathBuf::from(termination::DEFAULT_PATH))
            .filter(|path| is_given(value_of(flag::CR_NAME)) && path.exists()),
    }
}

/// An empty value counts as absent: controllers pass flags with nothing behind the equals sign.
fn is_given(value: Option<&str>) -> bool {
    value.is_some_and(|value| !value.is_empty())
}

/// A yes or no as an environment states it.
fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err(format!("{text:?} is neither true, 1, false nor 0")),
    }
}

fn at_least_a_second(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text)?;
    if duration < Duration::from_secs(1) {
        return Err(format!("{text:?} is too short; at least 1s"));
    }
    Ok(duration)
}

fn parse_metrics_address(text: &str) -> Result<MetricsAddress, String> {
    if text == "off" {
        return Ok(MetricsAddress::Off);
    }
    let address = args::address(text).map_err(|error| format!("{error}, or off"))?;
    Ok(MetricsAddress::At(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        mover: Arguments,
    }

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let arguments = [&["mover", "--volume-path=/t"], arguments].concat();
        Cli::try_parse_from(arguments).map(|cli| cli.mover)
    }

    #[test]
    fn the_parser_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let arguments = parse(&[]).unwrap();
        assert_eq!(arguments.transfer.connections().get(), 4);
        assert_eq!(arguments.transfer.verify, Verify::Auto);
        assert_eq!(arguments.transfer.detect_zeroes, Switch::On);
        assert_eq!(
            arguments.transfer.no_progress_timeout,
            Duration::from_mins(10)
        );
        assert_eq!(arguments.transfer.stall_timeout, Duration::from_secs(30));
        assert_eq!(arguments.transfer.min_rate, LeastRate::default());
        assert_eq!(arguments.run.metrics_linger, Duration::from_secs(10));
        assert!(!arguments.egress.allow_plain_http && !arguments.egress.allow_local_targets);
        assert_eq!(arguments.run.check, None);
        assert_eq!(arguments.log_format(), Format::Text);
        assert_eq!(arguments.log_level(), Level::INFO);
        assert_eq!(arguments.metrics_address(), None);
        assert_eq!(arguments.termination_log(), None);
        assert!(!arguments.started_by_controller() && !arguments.may_overwrite());
    }

    #[test]
    fn the_former_name_of_a_flag_is_a_hidden_alias() {
        use clap::CommandFactory;
        let arguments = parse(&["--patience=7m"]).unwrap();
        assert_eq!(
            arguments.transfer.no_progress_timeout,
            Duration::from_mins(7)
        );
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("--no-progress-timeout") && !help.contains("--patience"));
    }

    #[test]
    fn forklifts_arguments() {
        let arguments = parse(&[
            "--secret-name=s",
            "--cr-name=c",
            "--cr-namespace=n",
            "--pvc-size=1073741824",
            "--owner-uid=u-1",
        ])
        .unwrap();
        assert!(arguments.started_by_controller() && arguments.may_overwrite());
        assert_eq!(arguments.owner_uid(), "u-1");
        assert_eq!(
            arguments.metrics_address(),
            Some("[::]:8443".parse().unwrap())
        );
    }

    #[test]
    fn empty_values_are_tolerated_and_count_as_absent() {
        let arguments = parse(&[
            "--secret-name=",
            "--cr-name=",
            "--cr-namespace=",
            "--pvc-size=",
            "--owner-uid=",
        ])
        .unwrap();
        assert!(!arguments.started_by_controller());
        assert_eq!(arguments.owner_uid(), "");
    }

    #[test]
    fn switches_are_given_with_and_without_a_value() {
        for (flag, plain_http) in [
            ("--allow-plain-http", Some(true)),
            ("--allow-plain-http=true", Some(true)),
            ("--allow-plain-http=0", Some(false)),
            ("--allow-plain-http=", Some(false)),
            ("--allow-plain-http=yes", None),
        ] {
            let parsed = parse(&[flag]).map(|arguments| arguments.egress.allow_plain_http);
            assert_eq!(parsed.ok(), plain_http, "{flag}");
        }
        let arguments = parse(&["--allow-local-targets", "--force"]).unwrap();
        assert!(arguments.egress.allow_local_targets && arguments.target.force);
    }

    #[test]
    fn metrics_addresses() {
        for (text, expected) in [
            ("off", None),
            (":8443", Some("[::]:8443")),
            ("[::1]:1", Some("[::1]:1")),
            ("127.0.0.1:0", Some("127.0.0.1:0")),
        ] {
            let flag = format!("--metrics-address={text}");
            let arguments = parse(&["--cr-name=c", &flag]).unwrap();
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(arguments.metrics_address(), expected, "{text}");
        }
    }

    #[test]
    fn checks() {
        for (flags, check) in [
            (&["--check"][..], Some(Check::Preflight)),
            (&["--check=transfer"], Some(Check::Transfer)),
            (&[], None),
        ] {
            assert_eq!(parse(flags).unwrap().run.check, check);
        }
    }

    #[test]
    fn logging() {
        assert_eq!(parse(&["--json"]).unwrap().log_format(), Format::Json);
        for (flags, level) in [
            (&["--log-level=warn"][..], Level::WARN),
            (&["-v"], Level::DEBUG),
            (&["-vv"], Level::TRACE),
            (&["-v", "--log-level=trace"], Level::TRACE),
        ] {
            assert_eq!(parse(flags).unwrap().log_level(), level, "{flags:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (flag, words) in [
            ("--connections=0", "1..=64"),
            ("--connections=65", "1..=64"),
            ("--verify=maybe", "[possible values: auto, full, off]"),
            ("--no-progress-timeout=10", "ends without a unit"),
            ("--stall-timeout=10ms", "at least 1s"),
            ("--metrics-address=8443", "for example :8443"),
            ("--metrics-address=:99999", "for example :8443"),
            ("--conections=4", "'--connections'"),
        ] {
            let text = parse(&[flag]).unwrap_err().to_string();
            assert!(text.contains(words), "{flag}: {text}");
        }
    }

    #[test]
    fn malformed_arguments_still_say_where_the_message_goes() {
        for (arguments, path) in [
            (&["--termination-log=/x", "--bad"][..], Some("/x")),
            (&["--termination-log=off", "--cr-name=c"], None),
            (&["--bad"], None),
        ] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert_eq!(
                termination_log_of_malformed(&arguments),
                path.map(PathBuf::from)
            );
        }
    }

    #[test]
    fn the_table_of_timers_is_right() {
        use testkit::timers::stated;
        let arguments = parse(&[]).unwrap();
        assert_eq!(
            stated("no progress"),
            [arguments.transfer.no_progress_timeout]
        );
        assert_eq!(stated("stall"), [arguments.transfer.stall_timeout]);
        assert_eq!(stated("linger"), [arguments.run.metrics_linger]);
    }
}
