//! Arguments and environment: read here, once, and nowhere else.

use std::{collections::BTreeMap, ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{CommandFactory, Parser, Subcommand, builder::RangedU64ValueParser, error::ErrorKind};
use runtime::{args, logging};
use tracing::Level;

use crate::{klog::without_klog, namespaces::Namespaces};
use population::{Settings, settings::KeepPods};

/// The environment's name for `--namespaces`.
const NAMESPACES: &str = "POPULATOR_NAMESPACES";
/// The environment's name for `--health-address`.
const HEALTH_ADDRESS: &str = "POPULATOR_HEALTH_ADDRESS";

#[allow(
    clippy::doc_markdown,
    reason = "shown by --help, which does not render Markdown"
)]
/// Populates claims from oVirt disks and OpenStack images
///
/// Claims refer by dataSourceRef to an OvirtVolumePopulator or an OpenstackVolumePopulator. Images
/// of the populators, their resources and the number of claims at a time come from the environment:
/// OVIRT_POPULATOR_IMAGE, OPENSTACK_POPULATOR_IMAGE, MAX_POPULATOR_INFLIGHT,
/// MAX_POPULATOR_INFLIGHT_PER_SOURCE, MAX_POPULATOR_INFLIGHT_PER_NAMESPACE,
/// POPULATOR_SERVICE_ACCOUNTS, POPULATOR_CONTAINER_{LIMITS,REQUESTS}_{CPU,MEMORY}, the placement of
/// the pods (POPULATOR_TOLERATIONS and others), and the proxy variables, which the pods get too.
#[derive(Debug, Clone, Parser)]
#[command(name = "populator-controller", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Subcommands>,

    /// Kubeconfig file [default: the pod's service account, then $KUBECONFIG and ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// URL of the API server, instead of the one that the kubeconfig names
    #[arg(long, value_name = "URL", value_parser = url)]
    master: Option<http::Uri>,

    /// Serve the claims of these namespaces alone, with commas between their names; a Role in each of them suffices
    /// [default: POPULATOR_NAMESPACES, or all]
    #[arg(long, value_name = "NAMES")]
    namespaces: Option<Namespaces>,

    /// Path of the metrics
    #[arg(long, value_name = "PATH", default_value = "/metrics", value_parser = metrics_path)]
    metrics_path: String,

    /// Serve metrics and health over HTTP at ADDRESS:PORT or :PORT; may be given several times
    /// [default: :8080 and :8081, where Forklift listens for its two kinds]
    #[arg(long, alias = "http-endpoint", value_name = "ADDRESS", value_parser = args::address)]
    metrics_address: Vec<SocketAddr>,

    /// Serve health alone at ADDRESS:PORT or :PORT, where clients of the metrics cannot keep the node's
    /// probes from being answered [default: POPULATOR_HEALTH_ADDRESS, or only beside the metrics]
    #[arg(long, value_name = "ADDRESS", value_parser = args::address)]
    health_address: Option<SocketAddr>,

    /// Limit on the claims of one engine or identity service that are served at a time [default:
    /// MAX_POPULATOR_INFLIGHT_PER_SOURCE, MAX_POPULATOR_INFLIGHT or 10]
    #[arg(long, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    max_in_flight_per_source: Option<usize>,

    /// A claim that moves nothing for this long gives its slot to others
    #[arg(long, value_name = "DURATION", default_value = "5m",
          value_parser = population::settings::duration)]
    slot_timeout: Duration,

    /// A claim whose copy has not started this long after its temporary claim was created has failed
    /// [default: POPULATOR_START_DEADLINE, or never]
    #[arg(long, value_name = "DURATION", value_parser = population::settings::duration)]
    start_deadline: Option<Duration>,

    /// How long pods of populated claims are kept for their logs: forever, failed (only failed ones)
    /// or a duration such as 12h [default: forever for Forklift's migrations, else 1h]
    #[arg(long, value_name = "HOW_LONG")]
    keep_pods: Option<KeepPods>,

    /// Claims that are reconciled at a time, each with a few short requests
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    max_workers: usize,

    /// Format of the log: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    log_format: logging::Format,

    /// Lowest level that is logged: error, warn, info, debug or trace
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        hide_possible_values = true,
        value_parser = args::log_level()
    )]
    log_level: Level,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Subcommands {
    /// Print the definitions of both custom resources as YAML
    Crd,
}

/// The whole command line, of which the man page and the completions are made.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// The command that the process runs.
#[derive(Debug)]
pub enum Command {
    /// Print the definitions of the custom resources.
    Definitions,
    /// Serve claims.
    Serve(Box<Options>),
}

/// Options of the command that serves claims.
#[derive(Debug)]
pub struct Options {
    /// Kubeconfig file, if one was named.
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server, if one was named.
    pub master: Option<http::Uri>,
    /// The namespaces whose claims are served.
    pub namespaces: Namespaces,
    /// Path of the metrics.
    pub metrics_path: String,
    /// Addresses at which metrics and health are served.
    pub metrics_addresses: Vec<SocketAddr>,
    /// Address at which health alone is served, if any.
    pub health_address: Option<SocketAddr>,
    /// Claims that are reconciled at a time.
    pub workers: usize,
    /// Format of the log.
    pub log_format: logging::Format,
    /// Lowest level that is logged.
    pub log_level: Level,
    /// Images, resources and limits, as the installation sets them.
    pub settings: Settings,
    /// One sentence for each value of the environment that is ignored, to be logged.
    pub warnings: Vec<String>,
    /// Namespace of the process's pod, which holds its lease; `None` outside of a cluster.
    pub namespace: Option<String>,
    /// Name of this process among its replicas: the holder of the lease.
    pub identity: String,
}

impl Command {
    /// The command that this process was started with.
    ///
    /// # Errors
    /// What is wrong with the arguments, ready to be printed. `--help` and `--version` are errors
    /// too, which [`clap::Error::use_stderr`] distinguishes.
    pub fn of_process() -> Result<Self, clap::Error> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::parse(std::env::args_os(), &environment.collect())
    }

    /// The same for given arguments, of which the first is the program's name, and a given
    /// environment.
    ///
    /// # Errors
    /// As for [`Self::of_process`].
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, clap::Error> {
        let (arguments, verbosity) = without_klog(arguments);
        let arguments = Arguments::try_parse_from(arguments)?;
        if let Some(Subcommands::Crd) = arguments.command {
            return Ok(Self::Definitions);
        }
        let get = |name: &str| environment.get(name).cloned();
        let (mut settings, mut warnings) = Settings::from_environment(get)
            .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n")))?;
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        if let Some(limit) = arguments.max_in_flight_per_source {
            settings.max_in_flight_per_source = limit;
        }
        settings.slot_timeout = arguments.slot_timeout;
        settings.start_deadline = arguments.start_deadline.or(settings.start_deadline);
        settings.keep_pods = arguments.keep_pods.unwrap_or_default();
        let of_environment =
            get(HEALTH_ADDRESS).and_then(|value| match args::address(value.trim()) {
                Ok(address) => Some(address),
                Err(error) => {
                    warnings.push(format!("{HEALTH_ADDRESS} is ignored: {error}"));
                    None
                }
            });
        let namespaces = match (arguments.namespaces, get(NAMESPACES)) {
            (Some(namespaces), _) => namespaces,
            // Ignored, it would have the claims of all namespaces served.
            (None, Some(value)) => value.parse().map_err(|error| {
                clap::Error::raw(
                    ErrorKind::ValueValidation,
                    format!("{NAMESPACES}: {error}\n"),
                )
            })?,
            (None, None) => Namespaces::default(),
        };
        // klog calls the verbosity 4 debug.
        let raised = if verbosity >= 4 {
            Level::DEBUG
        } else {
            Level::ERROR
        };
        Ok(Self::Serve(Box::new(Options {
            kubeconfig: arguments.kubeconfig,
            master: arguments.master,
            namespaces,
            metrics_path: arguments.metrics_path,
            metrics_addresses: if arguments.metrics_address.is_empty() {
                [8080, 8081].map(args::all_addresses).to_vec()
            } else {
                arguments.metrics_address
            },
            health_address: arguments.health_address.or(of_environment),
            workers: arguments.max_workers,
            log_format: arguments.log_format,
            log_level: arguments.log_level.max(raised),
            settings,
            warnings,
            namespace: get("POD_NAMESPACE"),
            // A pod's host name is its name.
            identity: get("POD_NAME")
                .or_else(|| get("HOSTNAME"))
                .unwrap_or_else(|| format!("populator-controller-{:08x}", fastrand::u32(..))),
        })))
    }
}

fn metrics_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && !text.contains(['?', '#', ' ']) {
        Ok(text.to_owned())
    } else {
        Err("give a path that begins with a slash, such as /metrics".to_owned())
    }
}

fn url(text: &str) -> Result<http::Uri, String> {
    let url: Option<http::Uri> = text.parse().ok();
    url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some())
        .ok_or_else(|| "give a URL such as https://10.0.0.1:6443".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klog::{KLOG_SWITCHES, KLOG_VALUES};

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command, clap::Error> {
        let all = ["populator-controller"].iter().chain(arguments);
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Command::parse(all.map(OsString::from), &environment.collect())
    }

    fn options(arguments: &[&str], environment: &[(&str, &str)]) -> Options {
        match parse(arguments, environment) {
            Ok(Command::Serve(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_arguments_it_serves_as_forklift_expects() {
        let options = options(&[], &[("POD_NAMESPACE", "n"), ("POD_NAME", "p")]);
        assert_eq!(options.metrics_path, "/metrics");
        let addresses = options.metrics_addresses.iter().map(ToString::to_string);
        assert_eq!(addresses.collect::<Vec<_>>(), ["[::]:8080", "[::]:8081"]);
        assert_eq!(options.log_level, Level::INFO);
        assert_eq!(options.namespace.as_deref(), Some("n"));
        assert_eq!(options.identity, "p");
        assert_eq!(
            options.warnings.len(),
            2,
            "no kind is served: {:?}",
            options.warnings
        );
    }

    #[test]
    fn gos_forms_are_accepted() {
        for arguments in [
            &[
                "--kubeconfig=/k",
                "--master=https://h:1",
                "--metrics-path=/m",
            ][..],
            &[
                "-kubeconfig",
                "/k",
                "-master",
                "https://h:1",
                "-metrics-path",
                "/m",
            ],
            &[
                "-kubeconfig=/k",
                "--master",
                "https://h:1",
                "-metrics-path=/m",
            ],
        ] {
            let options = options(arguments, &[]);
            assert_eq!(options.kubeconfig, Some("/k".into()), "{arguments:?}");
            assert_eq!(options.master.unwrap(), "https://h:1");
            assert_eq!(options.metrics_path, "/m");
        }
    }

    #[test]
    fn an_empty_value_is_none_as_in_go() {
        let arguments = [
            "--kubeconfig=",
            "-master",
            "",
            "--http-endpoint=",
            "-metrics-path=",
        ];
        let found = options(&arguments, &[]);
        let plain = options(&[], &[]);
        assert_eq!((found.kubeconfig, found.master), (None, None));
        assert_eq!(found.metrics_path, plain.metrics_path);
        assert_eq!(found.metrics_addresses, plain.metrics_addresses);
        // For a flag that Forklift lacks, it is a mistake.
        assert!(parse(&["--max-workers="], &[]).is_err());
    }

    #[test]
    fn klogs_flags_do_not_break_the_start() {
        let all = [
            "-v=2",
            "-v",
            "2",
            "--v=2",
            "--v",
            "2",
            "-logtostderr",
            "--alsologtostderr=true",
            "-stderrthreshold=INFO",
            "--stderrthreshold",
            "2",
            "-vmodule=a=1",
            "-log_file",
            "/f",
            "--log-dir=/d",
            "-log_file_max_size=1",
            "--log_backtrace_at",
            ":0",
            "--one_output",
            "-skip_headers",
            "--skip_log_headers=false",
            "-add_dir_header",
            "-legacy_stderr_threshold_behavior=false",
            "-alsologtostderrthreshold=ERROR",
            "--log_flush_frequency",
            "5s",
        ];
        let names = all.map(|flag| flag.trim_start_matches('-').replace('-', "_"));
        for known in KLOG_VALUES.iter().chain(&KLOG_SWITCHES) {
            let is_it = |name: &String| name.split('=').next() == Some(known);
            assert!(names.iter().any(is_it), "{known}");
        }
        let mut arguments = all.to_vec();
        arguments.push("--metrics-path=/m");
        let of_all = options(&arguments, &[]);
        assert_eq!(
            (of_all.metrics_path.as_str(), of_all.log_level),
            ("/m", Level::INFO)
        );
        assert_eq!(options(&["-v=4"], &[]).log_level, Level::DEBUG);
        assert_eq!(options(&["-v", "x"], &[]).log_level, Level::INFO);
        assert_eq!(
            options(&["-v=5", "--log-level=trace"], &[]).log_level,
            Level::TRACE
        );
    }

    #[test]
    fn addresses_are_accepted_in_every_form() {
        let of = |value: &str| options(&["--http-endpoint", value], &[]).metrics_addresses;
        assert_eq!(of(":9090"), ["[::]:9090".parse().unwrap()]);
        assert_eq!(of("127.0.0.1:1"), ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(of("localhost:1"), ["127.0.0.1:1".parse().unwrap()]);
        let two = options(&["--metrics-address=:1", "--metrics-address=[::1]:2"], &[]);
        assert_eq!(two.metrics_addresses.len(), 2);
    }

    #[test]
    fn health_has_an_address_of_its_own_where_one_is_set() {
        let of = |arguments: &[&str], value| {
            options(arguments, &[("POPULATOR_HEALTH_ADDRESS", value)]).health_address
        };
        assert_eq!(of(&[], ""), None);
        assert_eq!(of(&[], ":1"), "[::]:1".parse().ok());
        let flag = ["--health-address=127.0.0.1:2"];
        assert_eq!(of(&flag, ":1"), "127.0.0.1:2".parse().ok());
        let bad = options(&[], &[("POPULATOR_HEALTH_ADDRESS", "8082")]);
        assert_eq!(bad.health_address, None);
        let warning = bad.warnings.last().unwrap();
        for word in ["POPULATOR_HEALTH_ADDRESS", "8082", "ADDRESS:PORT"] {
            assert!(warning.contains(word), "{warning}");
        }
    }

    #[test]
    fn some_namespaces_are_served_by_flag_or_environment() {
        let of = |arguments: &[&str], value| {
            options(arguments, &[("POPULATOR_NAMESPACES", value)]).namespaces
        };
        let two: Namespaces = "a,b".parse().unwrap();
        assert_eq!(of(&[], ""), Namespaces::default());
        assert_eq!(of(&[], "b, a"), two);
        assert_eq!(of(&["--namespaces=a,b"], "c"), two);
        // All namespaces would be more than was asked for.
        let error = parse(&[], &[("POPULATOR_NAMESPACES", "a;b")]).unwrap_err();
        let text = error.to_string();
        for word in ["POPULATOR_NAMESPACES", "\"a;b\"", "team-a,team-b"] {
            assert!(error.use_stderr() && text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_bad_value_is_named_with_its_flag_and_the_way_out() {
        for (argument, words) in [
            ("--health-address=8082", "ADDRESS:PORT"),
            ("--metrics-address=8080", "ADDRESS:PORT"),
            ("--metrics-path=metrics", "begins with a slash"),
            ("--master=10.0.0.1:6443", "https://10.0.0.1:6443"),
            ("--max-in-flight-per-source=0", "1..=10000"),
            ("--log-format=xml", "xml"),
            ("--namespaces=A", "team-a,team-b"),
            ("--keep-pods=always", "12h"),
            ("--slot-timeout=5", "30m"),
            ("--no-such-flag", "--no-such-flag"),
        ] {
            let error = parse(&[argument], &[]).unwrap_err();
            let text = error.to_string();
            assert!(error.use_stderr() && text.contains(words), "{text}");
            let (flag, value) = argument.split_once('=').unwrap_or((argument, ""));
            assert!(text.contains(flag) && text.contains(value), "{text}");
        }
    }

    /// Ignored, it would put pods where they must not run.
    #[test]
    fn a_placement_that_cannot_be_is_an_error_of_the_start() {
        let environment = [("POPULATOR_NODE_SELECTOR", "disktype=ssd")];
        let error = parse(&[], &environment).unwrap_err();
        assert!(error.use_stderr());
        let text = error.to_string();
        assert!(
            text.starts_with("error: the variable POPULATOR_NODE_SELECTOR: ")
                && text.ends_with("{disktype: ssd}\n"),
            "{text}"
        );
        // Definitions need no settings.
        assert!(matches!(
            parse(&["crd"], &environment),
            Ok(Command::Definitions)
        ));
        let given = options(&[], &[("POPULATOR_NODE_SELECTOR", "{disktype: ssd}")]);
        assert_eq!(given.settings.placement.node_selector["disktype"], "ssd");
    }

    #[test]
    fn the_environment_and_the_flags_make_the_settings() {
        let options = options(
            &["--max-in-flight-per-source=3", "--max-workers=4"],
            &[
                ("MAX_POPULATOR_INFLIGHT", "7"),
                ("OVIRT_POPULATOR_IMAGE", "i"),
                ("OPENSTACK_POPULATOR_IMAGE", "i"),
            ],
        );
        assert!(options.warnings.is_empty(), "{:?}", options.warnings);
        let settings = options.settings;
        assert_eq!(
            (settings.max_in_flight, settings.max_in_flight_per_source),
            (7, 3)
        );
        assert_eq!(options.workers, 4);
        assert_eq!(settings.slot_timeout, Duration::from_mins(5));
        assert_eq!(settings.keep_pods, KeepPods::Default);
    }

    #[test]
    fn the_flag_comes_before_the_environment() {
        let environment = [("MAX_POPULATOR_INFLIGHT_PER_SOURCE", "4")];
        let of = |arguments: &[&str]| options(arguments, &environment).settings;
        assert_eq!(of(&[]).max_in_flight_per_source, 4);
        let flag = ["--max-in-flight-per-source=3"];
        assert_eq!(of(&flag).max_in_flight_per_source, 3);
        let others = ["--slot-timeout=90s", "--keep-pods=failed"];
        let settings = of(&others);
        assert_eq!(settings.slot_timeout, Duration::from_secs(90));
        assert_eq!(settings.keep_pods, KeepPods::Failed);
        let deadline = |arguments: &[&str], environment: &[(&str, &str)]| {
            options(arguments, environment).settings.start_deadline
        };
        let hour = [("POPULATOR_START_DEADLINE", "1h")];
        assert_eq!(deadline(&[], &[]), None);
        assert_eq!(deadline(&[], &hour), Some(Duration::from_hours(1)));
        let flag = ["--start-deadline=30m"];
        assert_eq!(deadline(&flag, &hour), Some(Duration::from_mins(30)));
    }

    #[test]
    fn help_and_version_are_no_failures() {
        for argument in ["--help", "--version", "-help", "-version"] {
            assert!(
                !parse(&[argument], &[]).unwrap_err().use_stderr(),
                "{argument}"
            );
        }
        assert!(matches!(parse(&["crd"], &[]), Ok(Command::Definitions)));
    }
}
