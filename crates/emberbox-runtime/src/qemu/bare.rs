//! A restore by hand: the floor that benchmarks are compared with.

use std::process::{Command, Stdio};
use std::sync::Arc;

use command_fds::CommandFdExt;

use super::{
    EngineError, Inherited, PID_FILE, ProcessRef, Qemu, QemuVm, Start, Started, start_error,
};
use crate::engine::{SnapshotFiles, Vm, VmSpec};

impl Qemu {
    /// Restores a snapshot with nothing around QEMU, the state given at once.
    pub(super) async fn start_bare(
        &self,
        spec: &VmSpec,
        snapshot: &SnapshotFiles,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        let place = &spec.place;
        let mut inherited = Inherited::default();
        let Started {
            arguments,
            memory,
            begin,
        } = self.command_line(spec, Start::Seed(snapshot), &mut inherited)?;
        let mut command = Command::new(&self.config.program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
            .fd_mappings(inherited.into_mappings())
            .map_err(|_collision| start_error(place, "descriptor numbers collide"))?;
        let child = command
            .spawn()
            .map_err(|e| EngineError::host("cannot start QEMU", e))?;
        let process = i32::try_from(child.id())
            .map_err(std::io::Error::other)
            .and_then(ProcessRef::of)
            .and_then(|reference| {
                reference.save(&place.dir.join(PID_FILE))?;
                reference.open()
            })
            .map_err(|e| EngineError::host("cannot watch QEMU", e))?
            .ok_or_else(|| start_error(place, "it ended at once"))?;
        let vm = QemuVm::connect(place, process, self.cgroups.clone(), memory).await?;
        vm.begin(begin).await?;
        Ok(vm)
    }
}
