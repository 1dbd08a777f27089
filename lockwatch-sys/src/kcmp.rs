//! Which descriptors are one open file description, and which threads share one file table: kcmp(2).

use std::{cmp::Ordering, collections::VecDeque, io};

/// A descriptor in the file table of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Descriptor {
    /// A thread, in our own pid namespace.
    pub task: u32,
    /// Its descriptor.
    pub fd: u32,
}

/// Compares the open file descriptions (`struct file`) behind two descriptors. Their order means nothing but is the
/// same for every caller until the next boot, so that descriptors can be sorted by it.
///
/// Fails with ESRCH or EBADF once a process or descriptor is gone, EPERM without ptrace access, ENOSYS on a kernel
/// without CONFIG_KCMP.
pub fn files(a: Descriptor, b: Descriptor) -> io::Result<Ordering> {
    const KCMP_FILE: libc::c_int = 0; // include/uapi/linux/kcmp.h
    kcmp(KCMP_FILE, a, b)
}

/// Compares the file tables (`struct files_struct`) of two tasks, likewise.
pub fn tables(a: u32, b: u32) -> io::Result<Ordering> {
    const KCMP_FILES: libc::c_int = 2;
    kcmp(KCMP_FILES, Descriptor { task: a, fd: 0 }, Descriptor { task: b, fd: 0 })
}

fn kcmp(what: libc::c_int, a: Descriptor, b: Descriptor) -> io::Result<Ordering> {
    // SAFETY: kcmp takes five numbers and touches no memory of ours.
    let answer = unsafe {
        let (a_fd, b_fd) = (libc::c_ulong::from(a.fd), libc::c_ulong::from(b.fd));
        libc::syscall(libc::SYS_kcmp, a.task, b.task, what, a_fd, b_fd)
    };
    match answer {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        -1 => Err(io::Error::last_os_error()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Sorts items into classes of equals, in n log n comparisons. Items that vanish meanwhile (ESRCH, EBADF) are left
/// out as soon as that shows; any other error ends it. The order within a class means nothing.
pub fn classes<T>(items: Vec<T>, compare: impl Fn(&T, &T) -> io::Result<Ordering>) -> io::Result<Vec<Vec<T>>> {
    let mut runs: VecDeque<Classes<T>> = items.into_iter().map(|item| VecDeque::from([vec![item]])).collect();
    while let Some(a) = runs.pop_front() {
        let Some(b) = runs.pop_front() else { return Ok(a.into()) };
        runs.push_back(merge(a, b, &compare)?);
    }
    Ok(Vec::new())
}

/// Classes of equals, in order.
type Classes<T> = VecDeque<Vec<T>>;

fn merge<T>(
    mut a: Classes<T>,
    mut b: Classes<T>,
    compare: impl Fn(&T, &T) -> io::Result<Ordering>,
) -> io::Result<Classes<T>> {
    let gone = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EBADF));
    let mut merged = VecDeque::with_capacity(a.len() + b.len());
    while let (Some(x), Some(y)) = (a.front_mut(), b.front_mut()) {
        match compare(&x[0], &y[0]) {
            Ok(Ordering::Less) => merged.extend(a.pop_front()),
            Ok(Ordering::Greater) => merged.extend(b.pop_front()),
            Ok(Ordering::Equal) => x.extend(b.pop_front().into_iter().flatten()),
            Err(error) if !gone(&error) => return Err(error),
            // One of the two is gone: the next of its class speaks for it.
            Err(_) => {
                let run = if compare(&x[0], &x[0]).is_err() { &mut a } else { &mut b };
                run[0].swap_remove(0);
                if run[0].is_empty() {
                    run.pop_front();
                }
            }
        }
    }
    merged.append(&mut a);
    merged.append(&mut b);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn tells_descriptions_apart() {
        let (a, b) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let dup = a.try_clone().unwrap();
        let task = std::process::id();
        let descriptor = |f: &std::fs::File| Descriptor { task, fd: f.as_raw_fd().unsigned_abs() };
        let items = vec![descriptor(&a), descriptor(&b), descriptor(&dup)];
        let mut found = classes(items, |a, b| files(*a, *b)).unwrap();
        found.iter_mut().for_each(|class| class.sort_unstable());
        found.sort();
        // Other tests open and close files meanwhile: which of them has the lower number is not ours to say.
        let mut expect = [vec![descriptor(&a), descriptor(&dup)], vec![descriptor(&b)]];
        expect.iter_mut().for_each(|class| class.sort_unstable());
        expect.sort();
        assert_eq!(found, expect);
        assert_eq!(tables(task, task).unwrap(), Ordering::Equal);
    }

    #[test]
    fn what_vanishes_is_left_out() {
        let alive = |n: &i32| if *n < 0 { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) };
        let compare = |a: &i32, b: &i32| alive(a).and(alive(b)).map(|()| (a / 10).cmp(&(b / 10)));
        let check = |items: &[i32], expect: &[&[i32]]| {
            let mut found = classes(items.to_vec(), compare).unwrap();
            found.iter_mut().for_each(|class| class.sort_unstable());
            assert_eq!(found, expect);
        };
        check(&[], &[]);
        check(&[31, 12, -1, 30, 11, 25, 39], &[&[11, 12], &[25], &[30, 31, 39]]);
        check(&[-1, 5, -2, -3, 6], &[&[5, 6]]);
        assert!(classes(vec![1, 2], |_, _| Err(io::ErrorKind::PermissionDenied.into())).is_err());
    }
}
