//! Programs onto devices, the network namespace and the cgroup.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType,
    tc::{self, NlOptions, TcAttachOptions, TcHandle},
};

use crate::{
    bpffs,
    datapath::Datapath,
    error::AttachError,
    links::{self, Hook, Target, links_dir, parse_pin, pin_path},
};

/// How tc programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// tcx where the kernel has it, else clsact.
    #[default]
    Auto,
    /// A clsact qdisc's filters: they live as long as the device.
    Clsact,
}

/// What attaching did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    Created,
    /// The program that was there was exchanged, in one step.
    Updated,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub program: String,
    /// A device's name, or `host`.
    pub target: String,
}

/// The target name of links that belong to no device.
const HOST: &str = "host";
/// Our place among a clsact qdisc's filters.
const CLSACT_PRIORITY: u16 = 0x7e4;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0, 1);

impl Datapath {
    /// Both hooks of a host-side veth of the calling thread's network namespace.
    pub fn attach_workload(&mut self, device: &str) -> Result<Attachment, AttachError> {
        // The way in first: a workload that could send before its packets are judged is the worse.
        let inward = self.attach_device("from_workload", Hook::TcxIngress, device)?;
        self.attach_device("to_workload", Hook::TcxEgress, device)?;
        Ok(inward)
    }

    /// The ingress hook of a device that leads out of the node.
    pub fn attach_outside(&mut self, device: &str) -> Result<Attachment, AttachError> {
        self.attach_device("from_outside", Hook::TcxIngress, device)
    }

    /// The programs for processes of the host: `netns` is the node's own, `cgroup` a cgroup v2
    /// directory, usually the root.
    pub fn attach_host(&mut self, netns: BorrowedFd<'_>, cgroup: &Path) -> Result<Attachment, AttachError> {
        let directory =
            File::open(cgroup).map_err(|source| AttachError::Path { path: cgroup.into(), source })?;
        let of_cgroup = Target::Cgroup(directory.as_fd());
        // The look-up first: a connection that was marked must find it.
        let looked_up = self.attach_link("host_lookup", Hook::SkLookup, HOST, Target::Netns(netns))?;
        self.attach_link("host_connect4", Hook::CgroupConnect4, HOST, of_cgroup)?;
        self.attach_link("host_connect6", Hook::CgroupConnect6, HOST, of_cgroup)?;
        Ok(looked_up)
    }

    /// Takes all programs off a device, which may be gone already.
    pub fn detach(&mut self, device: &str) -> Result<(), AttachError> {
        for program in ["from_workload", "to_workload", "from_outside"] {
            let path = pin_path(&self.pin_dir, program, device);
            links::remove(&path).map_err(|source| AttachError::Path { path, source })?;
            if self.mode == AttachMode::Clsact && nix::net::if_::if_nametoindex(device).is_ok() {
                for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                    // None there: nothing to detach.
                    let _ = tc::qdisc_detach_program(device, direction, program);
                }
            }
        }
        Ok(())
    }

    /// Pins go by a device's name: after the device was renamed, its links are known by the new one.
    /// They hold all the while.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), AttachError> {
        for program in ["from_workload", "to_workload", "from_outside"] {
            let path = pin_path(&self.pin_dir, program, from);
            match std::fs::rename(&path, pin_path(&self.pin_dir, program, to)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(AttachError::Path { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All pinned links.
    pub fn attached(&self) -> Result<Vec<Attached>, AttachError> {
        let dir = links_dir(&self.pin_dir);
        let files = bpffs::files(&dir).map_err(|source| AttachError::Path { path: dir, source })?;
        let mut attached: Vec<_> = files
            .iter()
            .filter_map(|path| parse_pin(path))
            .map(|(program, target)| Attached { program, target })
            .collect();
        attached.sort_by(|a, b| (&a.target, &a.program).cmp(&(&b.target, &b.program)));
        Ok(attached)
    }

    fn attach_device(
        &mut self,
        program: &'static str,
        hook: Hook,
        device: &str,
    ) -> Result<Attachment, AttachError> {
        let ifindex = nix::net::if_::if_nametoindex(device)
            .map_err(|_| AttachError::NoDevice { device: device.into() })?;
        match self.mode {
            AttachMode::Auto => self.attach_link(program, hook, device, Target::Device(ifindex)),
            AttachMode::Clsact => self
                .attach_filter(program, hook, device)
                .map_err(|source| AttachError::Clsact { device: device.into(), source }),
        }
    }

    fn attach_link(
        &self,
        program: &'static str,
        hook: Hook,
        name: &str,
        target: Target<'_>,
    ) -> Result<Attachment, AttachError> {
        let path = pin_path(&self.pin_dir, program, name);
        self.program(program).and_then(|fd| links::attach(&path, fd.as_fd(), hook, target)).map_err(
            |source| AttachError::Link {
                operation: "attachment",
                program: program.into(),
                target: name.into(),
                source,
            },
        )
    }

    fn attach_filter(
        &mut self,
        program: &'static str,
        hook: Hook,
        device: &str,
    ) -> Result<Attachment, ProgramError> {
        // There already, perhaps by somebody else; if it is missing for another reason, attaching
        // says so.
        let _ = tc::qdisc_add_clsact(device);
        let direction = if hook == Hook::TcxEgress { TcAttachType::Egress } else { TcAttachType::Ingress };
        let missing = || ProgramError::IOError(io::Error::from(io::ErrorKind::NotFound));
        let classifier: &mut SchedClassifier =
            self.ebpf.program_mut(program).ok_or_else(missing)?.try_into()?;
        let options = || {
            TcAttachOptions::Netlink(NlOptions {
                priority: CLSACT_PRIORITY,
                handle: CLSACT_HANDLE,
                classid: None,
            })
        };
        let (id, done) = match classifier.attach_with_options(device, direction, options()) {
            Ok(id) => (id, Attachment::Created),
            // Ours of an earlier run: the kernel exchanges the program in place.
            Err(_) => {
                let old = tc::SchedClassifierLink::attached(
                    device,
                    direction,
                    CLSACT_PRIORITY,
                    CLSACT_HANDLE,
                    None,
                )?;
                (classifier.attach_to_link(old)?, Attachment::Updated)
            }
        };
        // The filter belongs to the device, not to this process.
        std::mem::forget(classifier.take_link(id)?);
        Ok(done)
    }
}
