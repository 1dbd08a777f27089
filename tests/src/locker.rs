//! The locker: takes any lock in any way, one command a line, one answer a line.
//!
//! ```text
//! open PATH [ro|rw|wo] [cloexec] [as FD]    ok FD
//! dup FD [as FD]    close FD                ok FD | ok
//! flock FD sh|ex [nb|wait|block]            ok | ok waiting N, later granted N | ended N EINTR
//! posix FD r|w START LEN [nb|wait|block]    (LEN 0: to the end of the file)
//! ofd FD r|w START LEN [nb|wait|block]
//! lease FD r|w
//! unflock FD    posixun FD START LEN    ofdun FD START LEN    unlease FD
//! break PATH r|w wait                       opens it, which breaks its lease; ok waiting N, as above
//! interrupt N                               SIGUSR1 for the thread of wait N
//! fork SOCKET                               ok PID; the child connects to SOCKET and takes its commands there
//! new-pids                                  children get a pid namespace; the first of them is its init
//! spawn PROGRAM [ARG…]                      ok PID; it inherits every descriptor opened without cloexec
//! exec PROGRAM [ARG…]                       ok, then the channel closes
//! wait PID                                  ok code N | ok signal N
//! clone-files SOCKET                        like fork, but the child shares the table of descriptors (CLONE_FILES)
//! bind SOCKET [TYPE]                        ok FD; TYPE: dgram (default), stream, seqpacket; the last two listen
//! accept FD    socketpair [TYPE]            ok FD | ok FD FD
//! sendfd FD SOCKET [TYPE]                   through a socket of its own, closed when the message is on its way
//! sendfd FD over FD                         through a socket that is there already
//! recvfd FD [as FD]                         ok FD
//! mmap FD    munmap ADDRESS                 ok ADDRESS | ok; one shared page, which needs no descriptor any more
//! uring FD                                  ok FD of a ring that has FD registered
//! loop FD                                   ok DEVICE; the kernel detaches it when nobody has DEVICE open
//! timer MS [restart]                        SIGUSR2 for the process after so long (0: never); with restart, it ends no wait
//! setsid    comm NAME    pid    pidfile FD    write FD TEXT
//! leader-exit                               the main thread ends, the process lives on
//! raise SIGNAL    ignore SIGNAL    exit CODE
//! alarm MS die|interrupt|restart            SIGALRM in so many milliseconds, with restart over and over
//! crash DIR    eat                          ok, then a core in DIR | all the memory there is
//! ```
//!
//! `nb` asks once (`err EAGAIN`), `wait` waits in a thread of its own, `block` waits in the driver's thread, which
//! then is deaf until the lock is granted or a signal comes. Words are percent-encoded. The first line it prints is
//! `locker PID`. It ends when its channel closes, and after [`LIFE_SECONDS`] in any case.

mod channel;
mod command;
mod driver;
mod hidden;
mod lock;
mod sockets;
pub mod words;

pub use driver::{LIFE_SECONDS, main};
