//! One run: check the disk and the target, copy the disk, and end the session with the engine.

use std::time::Duration;

use clap::Args;
use contract::{
    Exit,
    args::{flag, secret},
};
use mover::{Check, Context, Done, Failure, Target, Verify, parse_duration};
use tokio::time::timeout;
use transfer::{Algorithm, Source, Verification};

use crate::{
    engine::{Address, Client, Credentials, Disk, DiskId, DiskStatus, Engine},
    session::{Imageio, Session, Timers},
};

/// Which disk, and how it is asked for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Source")]
pub struct SourceArguments {
    /// Address of the engine (the example shows one); without it, the secret key url
    #[arg(long = flag::ENGINE_URL, value_name = "URL")]
    pub engine_url: Option<String>,

    /// Log in as this section of ovirt-img.conf says
    #[arg(long = flag::CONFIG, value_name = "SECTION", conflicts_with = "secret_dir")]
    pub config: Option<String>,

    /// UUID of the disk
    #[arg(long = flag::DISK_ID, value_name = "UUID")]
    pub disk_id: DiskId,

    /// The engine ends the transfer, and unlocks the disk, after this long without a read; an
    /// outage that is shorter costs nothing, one that is longer makes the copy start over
    #[arg(long = flag::INACTIVITY_TIMEOUT, value_name = "DURATION", default_value = "2m", value_parser = inactivity)]
    pub inactivity_timeout: Duration,

    /// Wait this long for a disk that is locked or an engine that is busy with it
    #[arg(long = flag::LOCKED_WAIT, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub locked_wait: Duration,
}

/// Copies the disk to the target, or checks that it could be.
///
/// # Errors
/// One per kind of [`Exit`] that names the source or the target.
pub async fn run(mut context: Context, arguments: SourceArguments) -> Result<Done, Failure> {
    let client = client(&mut context, &arguments)?;
    let done = job(&context, &arguments, &client).await;
    // The answer is not needed; the time that is left after a signal is.
    let _ = timeout(context.stop.time_left(), client.logout()).await;
    done
}

async fn job(
    context: &Context,
    arguments: &SourceArguments,
    client: &Client,
) -> Result<Done, Failure> {
    let disk = tokio::select! {
        disk = look_up(client, &arguments.disk_id) => disk?,
        () = context.stop.asked() => {
            return Err(Failure::new(Exit::Terminated, "stopped from outside"));
        }
    };
    let target = context.open_target().await?;
    must_fit(&disk, &target)?;

    let data = Imageio {
        context,
        connector: context.connector()?,
        verification: verification(context.verify),
        target: context.check.is_none().then_some(&target),
    };
    let session = Session {
        engine: client,
        data: &data,
        disk: arguments.disk_id.clone(),
        size: disk.size,
        capacity: target.capacity(),
        timers: timers(context, arguments),
        stop: context.stop.clone(),
    };
    if let Some(check) = context.check {
        return checked(context, check, &session, &disk, &target).await;
    }

    let report = session.run().await?;
    drop(data);
    context.close(target).await?;
    Ok(Done::Copied {
        verified: report.verified,
    })
}

fn client(context: &mut Context, arguments: &SourceArguments) -> Result<Client, Failure> {
    let url = arguments
        .engine_url
        .as_deref()
        .filter(|url| !url.trim().is_empty())
        .or_else(|| context.secrets.text(secret::URL))
        .ok_or_else(|| {
            Failure::new(
                Exit::Configuration,
                format!(
                    "there is no engine to ask: give --{}, --{} with a section that has engine_url, or the secret key {}",
                    flag::ENGINE_URL,
                    flag::CONFIG,
                    secret::URL
                ),
            )
        })?;
    let address: Address = url.parse()?;
    context.set_source(address.url())?;
    let credentials = Credentials {
        user: context.secrets.required_text(secret::USER)?,
        password: context.secrets.required(secret::PASSWORD)?,
    };
    Ok(Client::new(
        context.rest()?,
        address,
        credentials,
        context.no_progress_timeout,
        context.redactor.clone(),
    ))
}

async fn look_up(client: &Client, id: &DiskId) -> Result<Disk, Failure> {
    client.login().await?;
    let disk = client.disk(id).await?;
    tracing::info!(
        disk = %id,
        name = disk.name,
        bytes = disk.size,
        status = ?disk.status,
        "the engine has the disk"
    );
    disk.ensure_transferable()?;
    if disk.content_type == "iso" {
        tracing::warn!("the disk holds an ISO image; it is copied as it is");
    }
    Ok(disk)
}

fn must_fit(disk: &Disk, target: &Target) -> Result<(), Failure> {
    if disk.size <= target.capacity() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::TargetTooSmall,
        format!(
            "the disk {} has {} bytes, but {} holds only {}; nothing was written and no image \
             transfer was made",
            net::quoted(&disk.name),
            disk.size,
            target.path().display(),
            target.capacity()
        ),
    ))
}

async fn checked(
    context: &Context,
    check: Check,
    session: &Session<'_, Client, Imageio<'_>>,
    disk: &Disk,
    target: &Target,
) -> Result<Done, Failure> {
    if disk.status == DiskStatus::Locked {
        return Err(Failure::new(
            Exit::SourceBusy,
            format!(
                "the disk {} is locked; a run now would wait up to {} s for it",
                net::quoted(&disk.name),
                session.timers.locked_wait.as_secs()
            ),
        ));
    }
    tracing::info!(
        target = %target.path().display(),
        room = target.room(),
        bytes = disk.size,
        "engine, credentials, disk and the size of the target are in order; nothing was written"
    );
    if check == Check::Transfer {
        tracing::info!("making and ending an image transfer, which locks the disk for a moment");
        let source = session.dry_run().await?;
        tracing::info!(
            data_bytes = source.data_bytes(),
            "the imageio daemon can be reached and gives the disk's data"
        );
        context.check_room(&source, target)?;
    } else if let Some(room) = target.room().filter(|room| *room < disk.size) {
        tracing::warn!(
            room,
            size = disk.size,
            "the target's file system has less room than the disk's size; --check=transfer finds out \
             whether its data fits"
        );
    }
    Ok(Done::Checked)
}

const fn verification(verify: Verify) -> Verification {
    match verify {
        // imageio states no digest beforehand, and computing one costs it a second reading.
        Verify::Auto | Verify::Off => Verification::None,
        Verify::Full => Verification::Asked(Algorithm::Blkhash),
    }
}

fn timers(context: &Context, arguments: &SourceArguments) -> Timers {
    Timers {
        inactivity: arguments.inactivity_timeout,
        locked_wait: arguments.locked_wait,
        no_progress: context.no_progress_timeout,
        ..Timers::default()
    }
}

/// At least three keep-alives of the copy engine ([`transfer::Options::keep_alive`], 20 s), so that
/// a late one does not cost the transfer; at most a day, longer than any outage that is worth a
/// wait.
fn inactivity(text: &str) -> Result<Duration, String> {
    let period = parse_duration(text)?;
    let whole = period.subsec_nanos() == 0;
    if !whole || !(60..=86_400).contains(&period.as_secs()) {
        return Err(format!(
            "{text} is not a whole number of seconds from 60s to 1d"
        ));
    }
    Ok(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_asks_for_a_second_reading() {
        assert_eq!(verification(Verify::Auto), Verification::None);
        assert_eq!(verification(Verify::Off), Verification::None);
        assert_eq!(
            verification(Verify::Full),
            Verification::Asked(Algorithm::Blkhash)
        );
    }

    #[test]
    fn inactivity_timeouts_that_work() {
        assert_eq!(inactivity("2m"), Ok(Duration::from_mins(2)));
        let least = Duration::from_mins(1);
        assert_eq!(inactivity("60s"), Ok(least));
        assert!(transfer::Options::default().keep_alive * 3 <= least);
        for text in ["0", "59s", "60500ms", "2d", "60", ""] {
            assert!(inactivity(text).is_err(), "{text}");
        }
    }
}
