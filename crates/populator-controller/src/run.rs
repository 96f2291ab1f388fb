//! The process put together: what watches, decides, writes and answers, from the start to the end.

use std::sync::{Arc, Mutex};

use kube::Client;
use runtime::Tasks;
use tokio::sync::mpsc;

use crate::{
    Settings,
    admission::Turns,
    apply::{Board, Recorder, Writer},
    observe::{Cache, Observer, Wakes, watch_all},
    reconcile::Controller,
};

/// Changes that are on their way to the loop. More than that wait in the watches.
const WAKES: usize = 1024;

/// Serves claims until `stop` ends.
pub async fn serve(
    client: Client,
    settings: Settings,
    workers: usize,
    stop: impl Future<Output = ()>,
) {
    let mut tasks = Tasks::new();
    let observer = Arc::new(Observer::new(client.clone(), Cache::new(true)));
    let recorder = Arc::new(Recorder::new(client.clone()));
    let board = Arc::new(Board::new(client.clone()));
    let (sender, mut receiver) = mpsc::channel(WAKES);
    let wakes = Wakes::new(sender);
    let complete = watch_all(&mut tasks, &client, &observer, &wakes, true);
    let controller = Arc::new(Controller {
        observer: Arc::clone(&observer),
        writer: Writer::new(client),
        recorder: Arc::clone(&recorder),
        board: Arc::clone(&board),
        turns: Mutex::new(Turns::default()),
        settings,
    });
    {
        let board = Arc::clone(&board);
        tasks.spawn(
            "status",
            async move { board.run(&observer, &recorder).await },
        );
    }
    let first = Arc::clone(&controller);
    tasks.spawn("first look", async move {
        complete.await;
        // Before any claim is looked at, so that nobody is let in too many.
        let claims = first.count_places();
        tracing::info!(claims = claims.len(), "the cluster is known");
        wakes.open();
        for claim in claims {
            wakes.send(claim).await;
        }
    });
    let requests = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    tokio::select! {
        () = controller.run(requests, workers, stop) => {}
        (name, panic) = tasks.panicked() => tracing::error!("the task {name} ended: {panic}"),
    }
}
