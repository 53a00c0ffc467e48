//! The page of shared memory through which a sweep tells the programs where to end, and sees where they are.

use std::fs::{File, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, hint, io, process, ptr};

use crate::Point;

/// The folder of the page. Its name is how one tells a program that has the points.
pub const FOLDER: &str = "/run/airlock-crash-points";

/// What is to become of the process that comes to the point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// It goes on.
    GoOn = 0,
    /// It ends, as by `kill -9`: no destructor runs, nothing is flushed.
    End = 1,
    /// It waits until the order is another one.
    Wait = 2,
}

#[derive(Debug, Default)]
struct Place {
    /// How often the point was passed.
    passed: AtomicU32,
    /// In how many passes the order is met; 0 for never.
    left: AtomicU32,
}

/// The page. All in it is atomic, so it may be looked at by any process at any time.
#[derive(Debug)]
#[repr(C)]
pub struct Page {
    order: AtomicU32,
    reached: AtomicU32,
    places: [Place; Point::ALL.len()],
}

impl Page {
    /// The page that this process passes its points by; `None` where there is none, as on a machine
    /// that no sweep has prepared.
    pub fn of_this_process() -> Option<&'static Self> {
        static PAGE: OnceLock<Option<&'static Page>> = OnceLock::new();
        *PAGE.get_or_init(|| Self::map(&path()).ok())
    }

    /// Makes an empty page, which every program may write, and maps it. To be called once, before
    /// the programs start.
    pub fn make() -> io::Result<&'static Self> {
        fs::create_dir_all(FOLDER)?;
        let file = File::create(path())?;
        file.set_len(size_of::<Self>() as u64)?;
        file.set_permissions(Permissions::from_mode(0o666))?;
        Self::map(&path())
    }

    #[expect(unsafe_code, reason = "there is no memory to share without it; linked by tests alone")]
    fn map(path: &Path) -> io::Result<&'static Self> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() != size_of::<Self>() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (length, writable) = (size_of::<Self>(), libc::PROT_READ | libc::PROT_WRITE);
        let fd = file.as_raw_fd();
        // SAFETY: the kernel chooses an address that nothing of ours is at, and the descriptor is open.
        let memory =
            unsafe { libc::mmap(ptr::null_mut(), length, writable, libc::MAP_SHARED, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is as long as a `Page`, aligned to a page, never unmapped; the file
        // keeps its length; and any bits are a `Page`, since it is made of atomic numbers.
        Ok(unsafe { &*memory.cast() })
    }

    /// Orders what becomes of the process that passes this point for the nth time from now.
    pub fn order(&self, point: Point, nth: u32, order: Order) {
        for place in &self.places {
            place.left.store(0, Ordering::SeqCst);
        }
        self.reached.store(0, Ordering::SeqCst);
        self.order.store(order as u32, Ordering::SeqCst);
        if let Some(place) = self.places.get(point as usize) {
            place.left.store(nth, Ordering::SeqCst);
        }
    }

    /// Changes the order for the process that waits.
    pub fn change(&self, order: Order) {
        self.order.store(order as u32, Ordering::SeqCst);
    }

    /// Whether the order was met.
    pub fn is_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst) != 0
    }

    /// How often a point was passed since [`Page::forget`].
    pub fn passed(&self, point: Point) -> u32 {
        self.places.get(point as usize).map_or(0, |place| place.passed.load(Ordering::SeqCst))
    }

    /// Counts passes from 0 again.
    pub fn forget(&self) {
        for place in &self.places {
            place.passed.store(0, Ordering::SeqCst);
        }
    }

    pub(crate) fn pass(&self, point: Point) {
        let Some(place) = self.places.get(point as usize) else { return };
        place.passed.fetch_add(1, Ordering::SeqCst);
        let less = |left: u32| left.checked_sub(1);
        if place.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) != Ok(1) {
            return;
        }
        self.reached.store(1, Ordering::SeqCst);
        // No system call: some of the sandboxes allow not even a sleep.
        while self.order.load(Ordering::SeqCst) == Order::Wait as u32 {
            hint::spin_loop();
        }
        if self.order.load(Ordering::SeqCst) == Order::End as u32 {
            process::abort();
        }
    }
}

fn path() -> std::path::PathBuf {
    Path::new(FOLDER).join("page")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn page() -> Page {
        Page {
            order: AtomicU32::default(),
            reached: AtomicU32::default(),
            places: std::array::from_fn(|_| Place::default()),
        }
    }

    #[test]
    fn an_order_is_met_once_at_its_point_and_pass() {
        let page = page();
        page.order(Point::Committed, 2, Order::GoOn);
        page.pass(Point::Committed);
        page.pass(Point::Committing);
        assert!(!page.is_reached());
        page.pass(Point::Committed);
        assert!(page.is_reached());
        page.order(Point::Asking, 1, Order::GoOn);
        page.pass(Point::Committed);
        assert!(!page.is_reached(), "an older order is past");
        assert_eq!((page.passed(Point::Committed), page.passed(Point::Committing)), (3, 1));
        page.forget();
        assert_eq!(page.passed(Point::Committed), 0);
    }

    #[test]
    fn a_process_that_waits_goes_on_when_it_is_told() {
        let page = page();
        page.order(Point::Linked, 1, Order::Wait);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| page.pass(Point::Linked));
            while !page.is_reached() {
                std::thread::yield_now();
            }
            assert!(!waiting.is_finished());
            page.change(Order::GoOn);
            waiting.join().unwrap();
        });
    }

    #[test]
    fn no_two_points_share_a_name() {
        let names: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
