//! What goes into a release beside the programs: man pages, completions of shells, lists of what is linked.

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::{
    files::File,
    man::{self, About},
};

/// Where Kubernetes reads how a pod's program has ended.
const TERMINATION: (&str, &str) = (
    "`/dev/termination-log`",
    "The result, when a controller started the program and the file exists; `--termination-log` names another one.",
);

/// The man pages and completions of all programs.
///
/// # Errors
/// A document lacks a table, or a generated file is no text.
pub(crate) fn generate() -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    for (command, about) in programs()? {
        files.extend(man::pages(&command, &about)?);
        files.extend(completions(command)?);
    }
    Ok(files)
}

/// What each shell loads, under the name by which it finds it.
fn completions(mut command: Command) -> anyhow::Result<Vec<File>> {
    let name = command.get_name().to_owned();
    let shells = [
        (Shell::Bash, format!("completions/bash/{name}")),
        (Shell::Zsh, format!("completions/zsh/_{name}")),
        (Shell::Fish, format!("completions/fish/{name}.fish")),
    ];
    let file = |(shell, path): (Shell, String)| {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut bytes);
        let text = String::from_utf8(bytes).with_context(|| path.clone())?;
        Ok(File { path, text })
    };
    shells.into_iter().map(file).collect()
}

fn programs() -> anyhow::Result<[(Command, About); 3]> {
    Ok([
        (
            ovirt_populator::Cli::command(),
            man::of_mover(
                "oVirt",
                &[],
                &[
                    (
                        "`$XDG_CONFIG_HOME/ovirt-img.conf`, `~/.config/ovirt-img.conf`",
                        "Sections for `--config`, in the form of ovirt-img: the engine's URL, the user, the password, the path of a bundle of authorities.",
                    ),
                    TERMINATION,
                ],
                "openstack-populator(1), ovirt-img(1), docs/operations.md and docs/credentials.md of the source code",
            )?,
        ),
        (
            openstack_populator::Cli::command(),
            man::of_mover(
                "OpenStack",
                &[
                    (
                        "`OS_CLOUD`",
                        "The cloud of clouds.yaml; `--os-cloud` wins over it.",
                    ),
                    (
                        "`OS_CLIENT_CONFIG_FILE`, `OS_CLIENT_SECURE_FILE`",
                        "The files that are read in place of those below.",
                    ),
                    (
                        "`OS_AUTH_URL`, `OS_USERNAME`, `OS_PASSWORD`, `OS_PROJECT_NAME` and so on",
                        "The variables of an openrc file: what the same words in lower case mean in clouds.yaml. No other credentials may be there, and no controller.",
                    ),
                ],
                &[
                    (
                        "`clouds.yaml`, `clouds.yml`, `clouds.json`",
                        "Clouds for `--os-cloud`, in the form of openstacksdk. The first file counts, in the present folder, `$XDG_CONFIG_HOME/openstack`, `~/.config/openstack`, `/etc/xdg/openstack` and `/etc/openstack`; before them the file that `OS_CLIENT_CONFIG_FILE` names.",
                    ),
                    (
                        "`secure.yaml`",
                        "Passwords of these clouds, at the same places; its values win.",
                    ),
                    TERMINATION,
                ],
                "ovirt-populator(1), openstack(1), docs/operations.md and docs/credentials.md of the source code",
            )?,
        ),
        (
            populator_controller::cli::command(),
            man::of_controller(
                &[
                    (
                        "`/var/run/secrets/kubernetes.io/serviceaccount`",
                        "The account of the pod that the controller runs in.",
                    ),
                    (
                        "`~/.kube/config`",
                        "How the API server is reached outside of a pod, unless `KUBECONFIG` or `--kubeconfig` names another file.",
                    ),
                ],
                &[
                    (
                        "0",
                        "It was ended by SIGTERM or SIGINT, or what was asked for is printed.",
                    ),
                    (
                        "1",
                        "The API server cannot be used, the lease was lost, or a part of the program failed; the last line of the log says which.",
                    ),
                    ("2", "Unknown or malformed arguments."),
                ],
                "kubectl(1), docs/controller.md of the source code",
            )?,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_its_page_and_a_completion_of_its_flags_for_each_shell() {
        let files = generate().unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        for (name, flag) in [
            ("ovirt-populator", "disk-id"),
            ("openstack-populator", "image-id"),
            ("populator-controller", "slot-timeout"),
        ] {
            for path in [
                format!("man/man1/{name}.1"),
                format!("completions/bash/{name}"),
                format!("completions/zsh/_{name}"),
                format!("completions/fish/{name}.fish"),
            ] {
                let file = files.iter().find(|file| file.path == path);
                let text = &file
                    .unwrap_or_else(|| panic!("{path} is not in {paths:?}"))
                    .text;
                assert!(
                    text.replace('\\', "").contains(flag),
                    "{flag} is not in {path}"
                );
            }
        }
        assert!(paths.contains(&"man/man1/populator-controller-crd.1"));
        let texts = |files: Vec<File>| files.into_iter().map(|file| file.text).collect::<Vec<_>>();
        assert_eq!(texts(files), texts(generate().unwrap()));
    }
}
