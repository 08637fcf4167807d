//! The loaded programs.

use std::{
    fs, io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier, SkLookup},
};
use nix::libc;
use tektin_abi::maps::{self as abi, KernelFeatures, PIN_VERSION};

use crate::{
    OBJECT,
    attach::AttachMode,
    bpffs,
    error::LoadError,
    features::Features,
    links::{self, links_dir},
    maps::Maps,
    table::maps_dir,
};

/// How to load. The default is for everybody but tests.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Other capacities than the maps' own, by map name.
    pub map_max_entries: Vec<(&'static str, u32)>,
    pub attach: AttachMode,
    /// What to take for the kernel's; `None`: probed.
    pub features: Option<Features>,
}

/// The programs of this build, in the kernel, and the maps they share with all builds of the
/// same layout. Dropping it detaches nothing.
pub struct Datapath {
    pub maps: Maps,
    pub(crate) pin_dir: PathBuf,
    pub(crate) ebpf: Ebpf,
    pub(crate) mode: AttachMode,
    features: Features,
    proxies_have_others: bool,
}

/// Those that [`Maps::open`] opens.
const MAPS: [&str; 13] = [
    abi::IPCACHE,
    abi::ENDPOINTS,
    abi::DEVICES,
    abi::POLICY_ROOT,
    abi::PEER_CLASS,
    abi::POLICY,
    abi::CT,
    abi::FRAGMENTS,
    abi::STEERED,
    abi::VERDICTS,
    abi::LISTENERS,
    abi::CONFIG,
    abi::METRICS,
];
/// Those that proxies hold open for as long as they run.
const OF_PROXIES: [&str; 4] = [abi::STEERED, abi::LISTENERS, abi::VERDICTS, abi::IPCACHE];

/// A program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedProgram {
    pub name: String,
    /// As `bpftool prog show id` takes it.
    pub id: u32,
}

const PROGRAMS: [&str; 6] =
    ["from_workload", "to_workload", "from_outside", "host_lookup", "host_connect4", "host_connect6"];

impl Datapath {
    /// Loads the programs against the maps pinned below `pin_dir`, which are made where they are
    /// missing. What is attached already goes on as it is until it is attached again.
    ///
    /// # Errors
    /// Also where a pinned map has another layout than this build's.
    pub fn open_or_load(pin_dir: &Path, options: &LoadOptions) -> Result<Self, LoadError> {
        bpffs::make(pin_dir)?;
        let maps = maps_dir(pin_dir);
        bpffs::make_directory(&maps)?;
        bpffs::make_directory(&links_dir(pin_dir))?;
        let missing = |names: &[&str]| names.iter().any(|name| !maps.join(name).exists());
        // Pins without some are an older build's, or somebody has removed them. The others have the same
        // layouts or are refused.
        if !missing(&MAPS) {
            // Before anything is loaded against them.
            Maps::open(pin_dir)?;
        }
        let proxies_have_others = missing(&OF_PROXIES);
        lift_memory_limit();
        let features = options.features.clone().unwrap_or_else(Features::probe);
        let kernel = KernelFeatures {
            redirect_peer: u8::from(features.redirect_peer),
            coarse_clock: u8::from(features.coarse_clock),
        };
        let mut loader = EbpfLoader::new();
        loader.override_global(abi::KERNEL, &kernel, true);
        loader.default_map_pin_directory(&maps);
        for (name, max) in &options.map_max_entries {
            loader.map_max_entries(name, *max);
        }
        let mut ebpf = loader.load(OBJECT)?;
        for name in PROGRAMS {
            load(&mut ebpf, name).map_err(|source| LoadError::Program { name, source })?;
        }
        let maps = Maps::open(pin_dir)?;
        maps.config.set_netns_cookie(own_netns_cookie(pin_dir)?)?;
        let mode = match options.attach {
            AttachMode::Auto if !features.tcx => AttachMode::Clsact,
            mode => mode,
        };
        Ok(Self { maps, pin_dir: pin_dir.into(), ebpf, mode, features, proxies_have_others })
    }

    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether proxies that run already have other maps open than these programs use: the pins of those
    /// were gone. They cannot be given these, nor steered to.
    #[must_use]
    pub fn proxies_have_others(&self) -> bool {
        self.proxies_have_others
    }

    /// The programs that this process loaded.
    #[must_use]
    pub fn programs(&self) -> Vec<LoadedProgram> {
        let mut programs: Vec<_> = self
            .ebpf
            .programs()
            .filter_map(|(name, program)| {
                Some(LoadedProgram { name: name.to_owned(), id: program.info().ok()?.id() })
            })
            .collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }

    pub(crate) fn program(&self, name: &'static str) -> io::Result<&aya::programs::ProgramFd> {
        let missing = || io::Error::from_raw_os_error(libc::ENOENT);
        self.ebpf.program(name).ok_or_else(missing)?.fd().map_err(io::Error::other)
    }

    /// Detaches everything of `pin_dir` and forgets its maps. For the end of a node, not of an agent.
    pub fn remove_all(pin_dir: &Path) -> Result<(), LoadError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| LoadError::PinDirectory { path, source }
        };
        let version = pin_dir.join(PIN_VERSION);
        for pin in bpffs::files(&links_dir(pin_dir)).map_err(at(&version))? {
            links::remove(&pin).map_err(at(&pin))?;
        }
        for pin in bpffs::files(&maps_dir(pin_dir)).map_err(at(&version))? {
            fs::remove_file(&pin).map_err(at(&pin))?;
        }
        for dir in [links_dir(pin_dir), maps_dir(pin_dir), version, pin_dir.to_owned()] {
            match fs::remove_dir(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Somebody else's, or a mount point.
                Err(_) if dir == pin_dir => {}
                Err(source) => return Err(LoadError::PinDirectory { path: dir, source }),
            }
        }
        Ok(())
    }
}

fn load(ebpf: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    let missing = || ProgramError::IOError(io::Error::from_raw_os_error(libc::ENOENT));
    let program: &mut Program = ebpf.program_mut(name).ok_or_else(missing)?;
    // The verifier gives up where a signal is pending for the thread: nothing is wrong, try again.
    const ATTEMPTS: u32 = 20;
    for _ in 1..ATTEMPTS {
        match load_once(program, name) {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result,
        }
    }
    load_once(program, name)
}

fn load_once(program: &mut Program, name: &str) -> Result<(), ProgramError> {
    match name {
        "host_lookup" => <&mut SkLookup>::try_from(program)?.load(),
        "host_connect4" | "host_connect6" => <&mut CgroupSockAddr>::try_from(program)?.load(),
        _ => <&mut SchedClassifier>::try_from(program)?.load(),
    }
}

/// Before 5.11 maps count as locked memory. Where the limit stays, loading says what is wrong.
fn lift_memory_limit() {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure is valid for the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) } != 0 {
        tracing::debug!("the limit of locked memory stays as it is");
    }
}

/// The cookie by which programs know the calling thread's network namespace.
fn own_netns_cookie(pin_dir: &Path) -> Result<u64, LoadError> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let failed = |source| LoadError::PinDirectory { path: pin_dir.join("netns cookie"), source };
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").map_err(failed)?;
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the option is 8 octets and `len` says so.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(failed(io::Error::last_os_error())) }
}
