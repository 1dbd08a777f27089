//! Where people and programs come to ask: HTTP on TCP for Prometheus and browsers, on a unix socket for lockwatch itself.
//! Nothing here changes anything: there is no route that does.
//!
//! A door is for anybody, and the agent must live: so there is a limit for everything. Connections, the length of a
//! request's head, the time it takes to come, the time until the next one, and how long a client may not read.

mod answer;
mod connection;
mod events;
mod host;
mod locks;
mod page;
mod patient;
mod routes;

use std::{
    future::{Future, pending},
    io,
    net::SocketAddr,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use lockwatch_config::Agent;
use tokio::{
    net::{TcpListener as TcpDoor, UnixListener as UnixDoor},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{hub::Door, metrics::DoorNumbers, sockets::Sockets};

/// How long open answers have to end when the agent does.
const GRACE: Duration = Duration::from_secs(2);
/// How long nobody is let in after that failed: this host is short of something, which does not pass at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Doors that are there, but not yet open.
#[derive(Debug)]
pub struct Doors {
    sockets: Sockets,
    on_tcp: OnTcp,
    max_connections: usize,
}

/// What is told over TCP of paths and processes: nobody knows who asks there.
#[derive(Clone, Copy, Debug)]
pub struct OnTcp {
    /// Whether `/api/v1/` is answered.
    pub api: bool,
    /// Whether the status page has names.
    pub names: bool,
}

impl OnTcp {
    /// As is configured, of a door at this address: beyond this host names need more than a page that is on anyway.
    pub fn of(config: &Agent, address: Option<SocketAddr>) -> Self {
        let near = address.is_none_or(|address| address.ip().is_loopback());
        Self { api: config.api_on_tcp, names: config.page && (near || config.api_on_tcp) }
    }
}

/// By which door somebody came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From this host or another; nobody knows who it is.
    Tcp,
    /// From this host, as root or a member of the socket's group: the kernel has let nobody else in.
    Unix,
}

/// What all connections share.
#[derive(Debug)]
struct House {
    door: Door,
    on_tcp: OnTcp,
    page: page::Shared,
    /// This machine's name, as clients may call it.
    name: String,
    missed: AtomicU64,
    turned_away_tcp: AtomicU64,
    turned_away_unix: AtomicU64,
    /// Whether the agent ends.
    closing: watch::Receiver<bool>,
}

impl Doors {
    /// At these sockets. Whoever connects waits until [`Doors::serve`]. At most so many connections are served at once at
    /// each door; whoever comes then is turned away.
    pub fn new(sockets: Sockets, on_tcp: OnTcp, max_connections: usize) -> Self {
        Self { sockets, on_tcp, max_connections }
    }

    /// Where the one on TCP is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.sockets.address()
    }

    /// Where the one for this host is.
    pub fn path(&self) -> &Path {
        self.sockets.unix.path()
    }

    /// Answers until that has ended; open answers then have a moment. Needs a tokio runtime with its drivers on.
    ///
    /// # Errors
    ///
    /// The sockets are of no use to the runtime.
    pub async fn serve(self, door: Door, ended: impl Future<Output = ()>) -> Result<()> {
        let Sockets { tcp, unix: listener } = self.sockets;
        let tcp = tcp.map(|tcp| tcp.set_nonblocking(true).and_then(|()| TcpDoor::from_std(tcp))).transpose();
        let (tcp, unix) = (tcp.context("serve on TCP")?, listener.socket().context("serve on the API socket")?);
        let unix =
            unix.set_nonblocking(true).and_then(|()| UnixDoor::from_std(unix)).context("serve on the API socket")?;
        let (close, closing) = watch::channel(false);
        let house = Arc::new(House {
            door,
            on_tcp: self.on_tcp,
            page: page::Shared::default(),
            name: host::own_name(),
            missed: AtomicU64::new(0),
            turned_away_tcp: AtomicU64::new(0),
            turned_away_unix: AtomicU64::new(0),
            closing,
        });
        let room = || Arc::new(Semaphore::new(self.max_connections));
        let (tcp_room, unix_room) = (room(), room());
        let mut open = JoinSet::new();
        let mut ended = pin!(ended);
        loop {
            let failed = tokio::select! {
                () = &mut ended => break,
                accepted = accept(tcp.as_ref()) => match (accepted, Arc::clone(&tcp_room).try_acquire_owned()) {
                    (Ok(stream), Ok(place)) => {
                        open.spawn(connection::serve(stream, Way::Tcp, Arc::clone(&house), place));
                        None
                    }
                    (Ok(_), Err(_)) => turn_away(&house.turned_away_tcp),
                    (Err(error), _) => Some(error),
                },
                accepted = unix.accept() => match (accepted, Arc::clone(&unix_room).try_acquire_owned()) {
                    (Ok((stream, _)), Ok(place)) => {
                        open.spawn(connection::serve(stream, Way::Unix, Arc::clone(&house), place));
                        None
                    }
                    (Ok(_), Err(_)) => turn_away(&house.turned_away_unix),
                    (Err(error), _) => Some(error),
                },
                Some(_) = open.join_next() => None,
            };
            if let Some(error) = failed {
                log::warn!("let somebody in: {error}");
                sleep(PAUSE).await;
            }
        }
        drop((tcp, unix));
        let _ = close.send(true);
        let _ = timeout(GRACE, async { while open.join_next().await.is_some() {} }).await;
        Ok(())
    }
}

impl House {
    fn numbers(&self) -> DoorNumbers {
        DoorNumbers {
            missed: self.missed.load(Ordering::Relaxed),
            turned_away_tcp: self.turned_away_tcp.load(Ordering::Relaxed),
            turned_away_unix: self.turned_away_unix.load(Ordering::Relaxed),
        }
    }
}

/// Comes back when the agent ends.
async fn closed(mut closing: watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn accept(tcp: Option<&TcpDoor>) -> io::Result<tokio::net::TcpStream> {
    match tcp {
        Some(tcp) => Ok(tcp.accept().await?.0),
        None => pending().await,
    }
}

/// The connection is closed when its stream is dropped.
fn turn_away(counter: &AtomicU64) -> Option<io::Error> {
    counter.fetch_add(1, Ordering::Relaxed);
    None
}

#[cfg(test)]
mod tests;
