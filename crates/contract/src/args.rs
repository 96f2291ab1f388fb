//! Flags and environment variables of the movers.
//!
//! The names in [`flag`] down to `OWNER_UID`, and the keys in [`secret`], are Forklift's: its
//! controller starts the movers with exactly these, and a user's secrets carry exactly those keys.

/// Long flags, without the leading dashes.
pub mod flag {
    /// Block device, or file, that receives the disk.
    pub const VOLUME_PATH: &str = "volume-path";
    /// Name of the Kubernetes secret; accepted for compatibility, used in messages only.
    pub const SECRET_NAME: &str = "secret-name";
    /// oVirt: UUID of the disk.
    pub const DISK_ID: &str = "disk-id";
    /// oVirt: `scheme://host[:port]` of the engine.
    pub const ENGINE_URL: &str = "engine-url";
    /// OpenStack: UUID of the Glance image.
    pub const IMAGE_ID: &str = "image-id";
    /// OpenStack: UUID of the Cinder volume.
    pub const VOLUME_ID: &str = "volume-id";
    /// OpenStack: UUID of the snapshot of a Cinder volume.
    pub const SNAPSHOT_ID: &str = "snapshot-id";
    /// OpenStack: identity (Keystone) URL.
    pub const ENDPOINT: &str = "endpoint";
    /// Name of the populator resource; its presence says that a controller started the process.
    pub const CR_NAME: &str = "cr-name";
    /// Namespace of the populator resource.
    pub const CR_NAMESPACE: &str = "cr-namespace";
    /// Size of the claim in bytes; accepted for compatibility. Progress counts the source's bytes.
    pub const PVC_SIZE: &str = "pvc-size";
    /// UID of the claim, the only label of the progress metric.
    pub const OWNER_UID: &str = "owner-uid";

    /// Folder with one file per secret key (a mounted secret); preferred over the environment.
    pub const SECRET_DIR: &str = "secret-dir";
    /// PEM file of certificates that are trusted beside the system's where the secret has no [`super::secret::CACERT`].
    pub const CA_BUNDLE: &str = "ca-bundle";
    /// OpenStack: name of a cloud of `clouds.yaml`.
    pub const OS_CLOUD: &str = "os-cloud";
    /// oVirt: name of a section of `ovirt-img.conf`.
    pub const CONFIG: &str = "config";
    /// An https server may lead to plain http.
    pub const ALLOW_PLAIN_HTTP: &str = "allow-plain-http";
    /// A server may lead to loopback, link-local and metadata addresses.
    pub const ALLOW_LOCAL_TARGETS: &str = "allow-local-targets";
    /// Number of connections that read data.
    pub const CONNECTIONS: &str = "connections";
    /// `auto`, `full` or `off`.
    pub const VERIFY: &str = "verify";
    /// Preflight: test everything, write nothing.
    pub const CHECK: &str = "check";
    /// Overwrite an existing file.
    pub const FORCE: &str = "force";
    /// Write the image's bytes as they are, whatever their format.
    pub const VERBATIM: &str = "verbatim";
    /// OpenStack: folder for an image that cannot be read while it is downloaded.
    pub const SCRATCH_DIR: &str = "scratch-dir";
    /// OpenStack: what all attempts of one migration have in common.
    pub const MIGRATION_ID: &str = "migration-id";
    /// OpenStack: what all attempts of one request have in common; another request takes over nothing that they made.
    pub const REQUEST_ID: &str = "request-id";
    /// OpenStack: remove what earlier attempts made in the cloud, and copy nothing.
    pub const CLEANUP: &str = "cleanup";
    /// Whether zero blocks inside data become holes: `on` or `off`.
    pub const DETECT_ZEROES: &str = "detect-zeroes";
    /// Longest time without a byte from the source before the run gives up.
    pub const NO_PROGRESS_TIMEOUT: &str = "no-progress-timeout";
    /// Former name of [`NO_PROGRESS_TIMEOUT`], an alias that `--help` hides.
    pub const PATIENCE: &str = "patience";
    /// Longest time without a byte on one connection before it is replaced.
    pub const STALL_TIMEOUT: &str = "stall-timeout";
    /// oVirt: longest time without a read before the engine ends the transfer.
    pub const INACTIVITY_TIMEOUT: &str = "inactivity-timeout";
    /// oVirt: longest wait for a disk that is locked.
    pub const LOCKED_WAIT: &str = "locked-wait";
    /// Least rate of the source, such as `64KiB/5m`, or `off`.
    pub const MIN_RATE: &str = "min-rate";
    /// `text` or `json`.
    pub const LOG_FORMAT: &str = "log-format";
    /// Short for `--log-format=json`.
    pub const JSON: &str = "json";
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub const LOG_LEVEL: &str = "log-level";
    /// Longest time that the metrics stay up after success, for a last scrape.
    pub const METRICS_LINGER: &str = "metrics-linger";
    /// Address of the metrics endpoint, or `off`.
    pub const METRICS_ADDRESS: &str = "metrics-address";
    /// File that receives the termination message.
    pub const TERMINATION_LOG: &str = "termination-log";
}

/// Environment variables that stand in for a flag of the movers; the flag wins.
pub mod environment {
    /// [`super::flag::ALLOW_PLAIN_HTTP`]: `true`, `1`, `false` or `0`; empty means false.
    pub const ALLOW_PLAIN_HTTP: &str = "POPULATOR_ALLOW_PLAIN_HTTP";
    /// [`super::flag::ALLOW_LOCAL_TARGETS`], likewise.
    pub const ALLOW_LOCAL_TARGETS: &str = "POPULATOR_ALLOW_LOCAL_TARGETS";
    /// [`super::flag::MIN_RATE`].
    pub const MIN_RATE: &str = "POPULATOR_MIN_RATE";

    /// Each of them.
    pub const ALL: [&str; 3] = [ALLOW_PLAIN_HTTP, ALLOW_LOCAL_TARGETS, MIN_RATE];
}

/// Environment variables that hold the keys of a secret, as `envFrom` makes them.
///
/// The same names are the file names of a mounted secret ([`flag::SECRET_DIR`]).
pub mod secret {
    /// oVirt: user with profile, such as `admin@internal`.
    pub const USER: &str = "user";
    /// Password (oVirt and OpenStack).
    pub const PASSWORD: &str = "password";
    /// PEM bundle of certificate authorities that replaces the system's.
    pub const CACERT: &str = "cacert";
    /// The same as [`CACERT`] in secrets of type TLS; `envFrom` drops keys with a dot, files do
    /// not.
    pub const CA_CRT: &str = "ca.crt";
    /// `true`, `1`, `false`, `0` in any case; empty or absent means false.
    pub const INSECURE_SKIP_VERIFY: &str = "insecureSkipVerify";
    /// The engine's, or the identity service's, URL; used when no flag gives one.
    pub const URL: &str = "url";

    /// The proxy for the source, `http://[USER:PASSWORD@]HOST[:PORT]`. It wins over the variables of the
    /// environment, which pods show to everyone who may read them.
    pub const PROXY: &str = "proxy";

    /// OpenStack: a whole `clouds.yaml`, as cluster-api-provider-openstack has it in its secrets.
    pub const CLOUDS_YAML: &str = "clouds.yaml";
    /// OpenStack: name of the cloud in [`CLOUDS_YAML`].
    pub const CLOUD: &str = "cloud";

    /// OpenStack: region of the catalog.
    pub const REGION_NAME: &str = "regionName";
    /// OpenStack: `password` (also when empty), `token` or `applicationcredential`.
    pub const AUTH_TYPE: &str = "authType";
    /// OpenStack: user by name.
    pub const USERNAME: &str = "username";
    /// OpenStack: user by id.
    pub const USER_ID: &str = "userID";
    /// OpenStack: application credential by id.
    pub const APPLICATION_CREDENTIAL_ID: &str = "applicationCredentialID";
    /// OpenStack: application credential by name (needs the user).
    pub const APPLICATION_CREDENTIAL_NAME: &str = "applicationCredentialName";
    /// OpenStack: secret of the application credential.
    pub const APPLICATION_CREDENTIAL_SECRET: &str = "applicationCredentialSecret";
    /// OpenStack: token to use or to exchange.
    pub const TOKEN: &str = "token";
    /// OpenStack: system scope, `all` or `true`.
    pub const SYSTEM_SCOPE: &str = "systemScope";
    /// OpenStack: project scope by name.
    pub const PROJECT_NAME: &str = "projectName";
    /// OpenStack: project scope by id.
    pub const PROJECT_ID: &str = "projectID";
    /// OpenStack: domain of the user by name.
    pub const USER_DOMAIN_NAME: &str = "userDomainName";
    /// OpenStack: domain of the user by id.
    pub const USER_DOMAIN_ID: &str = "userDomainID";
    /// OpenStack: domain of the project by name.
    pub const PROJECT_DOMAIN_NAME: &str = "projectDomainName";
    /// OpenStack: domain of the project by id.
    pub const PROJECT_DOMAIN_ID: &str = "projectDomainID";
    /// OpenStack: domain scope (or the user's domain, when a project is named) by name.
    pub const DOMAIN_NAME: &str = "domainName";
    /// OpenStack: domain scope (or the user's domain, when a project is named) by id.
    pub const DOMAIN_ID: &str = "domainID";
    /// OpenStack: domain for whatever names none.
    pub const DEFAULT_DOMAIN: &str = "defaultDomain";
    /// OpenStack: `public` (also when empty), `internal` or `admin`.
    pub const AVAILABILITY: &str = "availability";

    /// Keys whose values let their owner in: never shown in any form.
    pub const CREDENTIALS: [&str; 3] = [PASSWORD, APPLICATION_CREDENTIAL_SECRET, TOKEN];
    /// Keys whose values say who it is: not shown as words of their own. The other keys are no secret: they are
    /// words of a closed list, certificates, addresses, regions, projects and domains, which messages name.
    pub const IDENTITIES: [&str; 5] = [
        USER,
        USERNAME,
        USER_ID,
        APPLICATION_CREDENTIAL_ID,
        APPLICATION_CREDENTIAL_NAME,
    ];

    /// Every key that a mover reads; whatever else a secret holds is left alone.
    pub const ALL: [&str; 28] = [
        USER,
        PASSWORD,
        CACERT,
        CA_CRT,
        INSECURE_SKIP_VERIFY,
        URL,
        PROXY,
        CLOUDS_YAML,
        CLOUD,
        REGION_NAME,
        AUTH_TYPE,
        USERNAME,
        USER_ID,
        APPLICATION_CREDENTIAL_ID,
        APPLICATION_CREDENTIAL_NAME,
        APPLICATION_CREDENTIAL_SECRET,
        TOKEN,
        SYSTEM_SCOPE,
        PROJECT_NAME,
        PROJECT_ID,
        USER_DOMAIN_NAME,
        USER_DOMAIN_ID,
        PROJECT_DOMAIN_NAME,
        PROJECT_DOMAIN_ID,
        DOMAIN_NAME,
        DOMAIN_ID,
        DEFAULT_DOMAIN,
        AVAILABILITY,
    ];
}

/// Where the controller mounts a filesystem volume's image: the path that `KubeVirt` reads.
pub const FILESYSTEM_TARGET: &str = "/mnt/disk.img";
/// Where the controller attaches a block volume.
pub const BLOCK_TARGET: &str = "/dev/block";
/// The address of the metrics endpoint when a controller started the process (port 8443, HTTPS).
pub const METRICS_ADDRESS: &str = "[::]:8443";
