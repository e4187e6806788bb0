//! What can happen in the model: the steps of the world, the faults, and how often a run has seen the corners.

use fencepost::output::frame;

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A release point is signalled twice.
    ReleaseTwice,
    /// A release is carried out without a look at the fences.
    ReleaseEarly,
    /// A release that is due is forgotten.
    ReleaseLost,
    /// A render pass does not leave its fence on the leases.
    ForgottenReader,
    /// What leaves a plane is released at the commit, not at the flip.
    ReleaseAtCommit,
    /// A commit applies although one before it waits.
    Overtaking,
    /// A commit does not wait for its fence.
    EarlySample,
    /// A commit waits for the fences of other surfaces.
    HeldByOthers,
    /// The commits of a tree apply one by one.
    SplitTree,
    /// A buffer goes to a plane before its fence, and without it.
    NoPlaneFence,
    /// A frame goes to KMS without its render fence.
    NoRenderFence,
    /// A fence goes to the GPU before it has materialised.
    Unmaterialised,
    /// An idle output keeps a timer.
    BusyTimer,
    /// An output is not told of new content.
    MissedDamage,
    /// A client that overflows its queue stays.
    IgnoredOverflow,
}

/// The state of an acquire fence when it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquire {
    Done,
    Pending,
    Unmaterialised,
    /// The fence that [`Action::SignalNamed`] signals, before or after.
    Named(usize),
}

/// One step of the world. Indices are of slots, and taken modulo their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Commit {
        surface: usize,
        acquire: Acquire,
        implicit: bool,
    },
    /// A surface and its synchronised child, in one go. Where `twice`, the child has committed before, and only its
    /// newer commit is shown.
    CommitTree {
        parent: usize,
        child: usize,
        acquires: [Acquire; 2],
        twice: bool,
    },
    Detach {
        surface: usize,
    },
    AskFrame {
        surface: usize,
    },
    /// Breaks a rule of linux-drm-syncobj.
    CommitWrongly {
        surface: usize,
    },
    Burst {
        surface: usize,
    },
    Create {
        surface: usize,
        copied: bool,
        outputs: u32,
    },
    Destroy {
        surface: usize,
    },
    Disconnect {
        client: usize,
    },
    Connect {
        client: usize,
    },
    Materialise {
        fence: usize,
    },
    Signal {
        fence: usize,
    },
    Fail {
        fence: usize,
    },
    /// Signals the fence of [`Acquire::Named`].
    SignalNamed(usize),
    Gpu,
    Timer {
        output: usize,
    },
    Vblank {
        output: usize,
    },
    Plug {
        output: usize,
    },
    Unplug {
        output: usize,
    },
    Pause {
        output: usize,
    },
    Resume {
        output: usize,
    },
    Direct {
        output: usize,
        direct: bool,
    },
    RefuseCommit {
        output: usize,
        outcome: frame::Outcome,
    },
    RefuseMerge,
    RefuseImport,
    /// Of several points in one call.
    RefuseSignals,
    Wait {
        ms: u64,
    },
}

/// How often a run has been to the corners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) commits: u64,
    pub(crate) superseded: u64,
    pub(crate) overflows: u64,
    pub(crate) violations: u64,
    pub(crate) by_fence: u64,
    pub(crate) waited_releases: u64,
    pub(crate) latches: u64,
    pub(crate) last_moment: u64,
    pub(crate) direct: u64,
    pub(crate) flips: u64,
    pub(crate) refused: u64,
    pub(crate) failed_fences: u64,
}

impl Coverage {
    /// Each count with its name, and how much of it the random runs have to reach.
    pub(crate) fn each(&self) -> [(&'static str, u64, u64); 12] {
        [
            ("commits", self.commits, 10_000),
            ("commits superseded unseen", self.superseded, 500),
            ("queue overflows", self.overflows, 20),
            ("commits that break a rule", self.violations, 20),
            ("releases by fence", self.by_fence, 300),
            ("releases that wait", self.waited_releases, 200),
            ("latches", self.latches, 2_000),
            ("latches at the last moment", self.last_moment, 500),
            ("frames on a plane", self.direct, 200),
            ("flips", self.flips, 1_000),
            ("refused KMS commits", self.refused, 100),
            ("fences with an error", self.failed_fences, 100),
        ]
    }

    pub(crate) fn add(&mut self, run: &Self) {
        self.commits += run.commits;
        self.superseded += run.superseded;
        self.overflows += run.overflows;
        self.violations += run.violations;
        self.by_fence += run.by_fence;
        self.waited_releases += run.waited_releases;
        self.latches += run.latches;
        self.last_moment += run.last_moment;
        self.direct += run.direct;
        self.flips += run.flips;
        self.refused += run.refused;
        self.failed_fences += run.failed_fences;
    }
}
