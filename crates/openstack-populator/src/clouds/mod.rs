//! Credentials as users of OpenStack keep them: `clouds.yaml`, in a file or in a secret, and variables `OS_*`.
//!
//! One source gives all that says who logs in and where; what wins over what is in [`secrets`]. The words of
//! `clouds.yaml` become the keys of a secret, so that everything behind knows those alone.

mod cloud;
mod files;

use contract::{
    Exit,
    args::{flag, secret},
};
use mover::{Arguments, Environment, Failure, Secrets};
use secrecy::ExposeSecret;

use cloud::Cloud;
use files::Clouds;

/// Keys that say who logs in. A secret that has one of them does not need a cloud.
const LOGIN: [&str; 7] = [
    secret::USERNAME,
    secret::USER_ID,
    secret::PASSWORD,
    secret::TOKEN,
    secret::APPLICATION_CREDENTIAL_ID,
    secret::APPLICATION_CREDENTIAL_NAME,
    secret::APPLICATION_CREDENTIAL_SECRET,
];

/// Keys that stand beside a cloud, for what it does not say.
const BESIDE: [&str; 6] = [
    secret::CACERT,
    secret::CA_CRT,
    secret::INSECURE_SKIP_VERIFY,
    secret::PROXY,
    secret::REGION_NAME,
    secret::AVAILABILITY,
];

/// The keys of the first of these that is there:
///
/// 1. the secret (`--secret-dir`, or what a controller gave): its own keys, or its `clouds.yaml` without a login of
///    their own;
/// 2. the cloud that `--os-cloud` names, in the first `clouds.yaml` of the usual places;
/// 3. the environment's variables of the keys' names;
/// 4. the cloud that `OS_CLOUD` names;
/// 5. the variables `OS_*`.
///
/// The last four only without a controller, whose pod has an environment that its user did not choose. A password
/// that is missing is asked for then, on a terminal.
///
/// # Errors
/// [`Exit::Configuration`] for a file, a cloud or a key that cannot be used.
pub fn secrets(
    cloud: Option<&str>,
    arguments: &Arguments,
    environment: &Environment,
) -> Result<Secrets, Failure> {
    let own = Secrets::of(arguments, environment)?;
    let cloud = cloud.filter(|cloud| !cloud.is_empty());
    let by_controller = arguments.started_by_controller();
    if by_controller || arguments.credentials.secret_dir.is_some() {
        return of_secret(own, cloud);
    }
    let has_login = LOGIN.iter().any(|key| own.text(key).is_some());
    let mut found = if let Some(name) = cloud {
        of_files(name, &own, environment)?
    } else if has_login {
        own
    } else if let Some(name) = environment.get("OS_CLOUD") {
        of_files(name, &own, environment)?
    } else {
        match Cloud::of_variables(environment) {
            Some(cloud) => beside(cloud.keys("variables OS_*", Some(environment))?, &own),
            None => own,
        }
    };
    let has_user = [secret::USERNAME, secret::USER_ID]
        .iter()
        .any(|key| found.text(key).is_some());
    let by_password = matches!(found.text(secret::AUTH_TYPE), None | Some("password"));
    if has_user && by_password {
        found.ask(secret::PASSWORD, "Password for OpenStack: ")?;
    }
    Ok(found)
}

fn of_files(name: &str, own: &Secrets, environment: &Environment) -> Result<Secrets, Failure> {
    let clouds = Clouds::find(environment)?;
    let cloud = clouds.get(name)?;
    let origin = format!("cloud {name} of {}", clouds.origin());
    tracing::info!("credentials: {origin}");
    Ok(beside(cloud.keys(&origin, Some(environment))?, own))
}

/// The secret's own keys, unless it has a cloud in their place.
fn of_secret(own: Secrets, cloud: Option<&str>) -> Result<Secrets, Failure> {
    let Some(text) = own.get(secret::CLOUDS_YAML) else {
        return match cloud {
            Some(_) => Err(wrong(format!(
                "--{} is given, and the secret has no key {} ({})",
                flag::OS_CLOUD,
                secret::CLOUDS_YAML,
                own.origin()
            ))),
            None => Ok(own),
        };
    };
    if let Some(key) = LOGIN.iter().find(|key| own.text(key).is_some()) {
        if cloud.is_some() {
            return Err(wrong(format!(
                "--{} is given, and the secret has the key {key} beside {} ({}); remove one of the two",
                flag::OS_CLOUD,
                secret::CLOUDS_YAML,
                own.origin()
            )));
        }
        tracing::warn!(
            "the secret has the key {key}, so its key {} is not used",
            secret::CLOUDS_YAML
        );
        return Ok(own);
    }
    let named = cloud.or_else(|| own.text(secret::CLOUD).map(str::trim));
    let clouds = Clouds::parse(text.expose_secret(), own.origin())?;
    let name = match named {
        Some(name) => name.to_owned(),
        None => clouds.only()?.to_owned(),
    };
    let mut chosen = clouds.get(&name)?.clone();
    if own.text(secret::CACERT).is_some() || own.text(secret::CA_CRT).is_some() {
        // A path of the machine that the file was written on, which a pod does not have.
        chosen.forget_path_of_authorities();
    }
    let origin = format!("cloud {name} of {}", clouds.origin());
    Ok(beside(chosen.keys(&origin, None)?, &own))
}

fn beside(mut cloud: Secrets, own: &Secrets) -> Secrets {
    cloud.fill(own, &BESIDE);
    cloud
}

fn wrong(text: String) -> Failure {
    Failure::new(Exit::Configuration, text)
}

#[cfg(test)]
mod tests;
