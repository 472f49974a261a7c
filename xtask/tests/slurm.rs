//! `scripts/slurm` on a Slurm that the tests start, and on a stand-in where only the submission
//! matters; and the commands of its page.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use flatmin_book::{Piece, pieces, shown};
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use tempfile::TempDir;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Longest time to wait for anything. A busy machine is slow.
const PATIENCE: Duration = Duration::from_mins(3);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A plain smoke run.
fn smoke(out: &Path, options: &[&str]) {
    let arguments = ["reproduce", "--profile", "smoke", "--out"];
    let assert = Command::new(XTASK).args(arguments).arg(out).args(options).assert();
    assert.code(predicate::in_iter([0, 1]));
}

/// Tables, figures and claims, by name.
fn outputs(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = ["tables", "figures"].into_iter().flat_map(|name| files(&out.join(name)));
    let paths = folders.chain([out.join("claims.json")]);
    paths
        .map(|path| (path.strip_prefix(out).unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The logs of a folder whose names have this prefix, as one text.
fn logs(out: &Path, start: &str) -> String {
    let is_log = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(start);
    files(&out.join("slurm")).into_iter().filter(is_log).map(read).collect()
}

/// Cells computed and reused, as the manifest says.
fn counts(out: &Path) -> (usize, usize) {
    let manifest: serde_json::Value =
        serde_json::from_str(&read(out.join("manifest.json"))).unwrap();
    let count = |name: &str| usize::try_from(manifest[name].as_u64().unwrap()).unwrap();
    (count("cells_computed"), count("cells_reused"))
}

/// The submitted tasks: the hashes of each and its estimated seconds.
fn tasks(out: &Path) -> BTreeMap<usize, (Vec<String>, f64)> {
    let mut tasks: BTreeMap<usize, (Vec<String>, f64)> = BTreeMap::new();
    for line in read(out.join("slurm/cells")).lines() {
        let [task, hash, seconds] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (hashes, load) = tasks.entry(task.parse().unwrap()).or_default();
        hashes.push(hash.to_owned());
        *load += seconds.parse::<f64>().unwrap();
    }
    tasks
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `submit.sh` with a smoke run into a folder.
fn submit(out: &Path, xtask: impl AsRef<Path>) -> Command {
    let mut command = Command::new(root().join("scripts/slurm/submit.sh"));
    command.args(["--profile", "smoke", "--xtask"]).arg(xtask.as_ref()).arg("--out").arg(out);
    command
}

/// A Slurm of one node on the loopback address. Dropped, it ends with its jobs.
struct Cluster {
    folder: TempDir,
    daemons: Vec<Child>,
}

impl Cluster {
    /// `None`, with a message, where Slurm is not installed.
    fn start() -> Option<Self> {
        let programs = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "setpriv"];
        if let Some(missing) = programs.into_iter().find(|program| !is_installed(program)) {
            skip(&format!("there is no {missing}: install slurm-wlm and munge"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        configure(folder.path());
        let mut cluster = Self { folder, daemons: Vec::new() };
        let file = |name: &str| cluster.folder.path().join(name).display().to_string();
        let munge = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            format!("--key-file={}", file("munge.key")),
            format!("--socket={}", file("munge.socket")),
            format!("--seed-file={}", file("munge.seed")),
            format!("--pid-file={}", file("munge.pid")),
            format!("--log-file={}", file("munge.log")),
        ];
        let slurm = ["-D".to_owned(), "-f".to_owned(), file("slurm.conf")];
        cluster.daemon("munged", &munge);
        cluster
            .until("munged listens", |cluster| cluster.folder.path().join("munge.socket").exists());
        cluster.daemon("slurmctld", &slurm);
        cluster.daemon("slurmd", &slurm);
        cluster.until("the node is idle", |cluster| {
            cluster.ask("sinfo", &["--noheader", "--format=%T"]) == "idle\n"
        });
        Some(cluster)
    }

    /// Starts a daemon, which ends with this thread in any case.
    fn daemon(&mut self, name: &str, arguments: &[String]) {
        let log = File::create(self.folder.path().join(format!("{name}.out"))).unwrap();
        let child = Process::new("setpriv")
            .args(["--pdeathsig", "KILL", name])
            .args(arguments)
            .env("PATH", path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemons.push(child);
    }

    /// A command for this cluster.
    fn command(&self, mut command: Command) -> Command {
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
        command
    }

    /// The output of a command of Slurm, empty when it fails.
    fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(Command::new(program)).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until a condition holds, at most [`PATIENCE`].
    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            let logs: String = files(self.folder.path())
                .into_iter()
                .filter(|path| path.extension().is_some_and(|extension| extension == "out"))
                .map(read)
                .collect();
            assert!(start.elapsed() < PATIENCE, "never: {what}\n{logs}");
            // Each look starts a program on the machine that does the work.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until no job is left.
    fn wait(&self) {
        self.until("no job is left", Self::is_free);
    }

    fn is_free(&self) -> bool {
        let queue = self.command(Command::new("squeue")).arg("--noheader").output().unwrap();
        queue.status.success() && queue.stdout.is_empty()
    }

    /// The state of an ended job and its exit status.
    fn ended(&self, job: &str) -> (String, String) {
        let text = self.ask("scontrol", &["--oneliner", "show", "job", job]);
        let field = |name: &str| {
            let mut fields = text.split_whitespace().filter_map(|field| field.strip_prefix(name));
            fields.next().unwrap_or_default().to_owned()
        };
        (field("JobState="), field("ExitCode="))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A job of a failed test would outlive its daemon.
        let user = self.ask("id", &["-un"]);
        self.ask("scancel", &["--full", "--signal=KILL", "--user", user.trim()]);
        self.ask("scancel", &["--user", user.trim()]);
        let start = Instant::now();
        while !self.is_free() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        for daemon in self.daemons.iter_mut().rev() {
            // The daemon may have ended already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The search path of programs, with the folders of daemons, which are often on the path of root
/// only.
fn path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap())
}

fn is_installed(program: &str) -> bool {
    path().split(':').any(|folder| Path::new(folder).join(program).is_file())
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// The output of a program, without the line end.
fn words(program: &str, arguments: &[&str]) -> String {
    let output = Process::new(program).args(arguments).env("PATH", path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Writes the key and the configuration of a cluster that needs neither cgroups nor accounts.
fn configure(folder: &Path) {
    let mut key = [0; 1024];
    File::open("/dev/urandom").unwrap().read_exact(&mut key).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join("munge.key"));
    file.unwrap().write_all(&key).unwrap();

    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (controller, node) = (listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let (controller, node) = (port(&controller), port(&node));
    let (host, user) = (words("uname", &["-n"]), words("id", &["-un"]));
    let host = host.split('.').next().unwrap();
    let here = folder.display();
    let configuration = format!(
        "ClusterName=flatmin
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={here}/munge.socket
StateSaveLocation={here}/state
SlurmdSpoolDir={here}/spool
SlurmctldPidFile={here}/slurmctld.pid
SlurmdPidFile={here}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
MaxArraySize=5
ReturnToService=2
KillWait=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=all Nodes={host} Default=YES
"
    );
    fs::write(folder.join("slurm.conf"), configuration).unwrap();
    // Slurm 23.11 and later look for cgroups unless told not to. Earlier versions refuse the
    // option.
    let version = words("slurmd", &["-V"]);
    let version = version.split(' ').next_back().unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    if (numbers.next(), numbers.next()) >= (Some(23), Some(11)) {
        fs::write(folder.join("cgroup.conf"), "CgroupPlugin=disabled\n").unwrap();
    }
}

#[test]
fn a_job_array_gives_the_bytes_of_a_plain_run() {
    let Some(cluster) = Cluster::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (spread, plain) = (folder.path().join("100% spread"), folder.path().join("plain"));
    let assert = cluster.command(submit(&spread, XTASK)).args(["--tasks", "3"]).assert();
    assert.code(0).stdout(contains("in 3 tasks")).stderr("");
    smoke(&plain, &[]);
    cluster.wait();

    let collected = logs(&spread, "collect-");
    assert!(outputs(&spread) == outputs(&plain), "{collected}");
    let cells: usize = tasks(&spread).values().map(|(hashes, _)| hashes.len()).sum();
    assert_eq!(counts(&spread), (0, cells), "{collected}");
    assert_eq!(counts(&plain), (cells, 0));
    let jobs = read(spread.join("slurm/jobs"));
    let (array, _) = jobs.split_once(',').unwrap();
    for (task, (hashes, _)) in tasks(&spread) {
        let log = logs(&spread, &format!("task-{array}-{task}.log"));
        assert_eq!(log.matches(": computed in ").count(), hashes.len(), "{log}");
    }
}

#[test]
fn what_is_missing_is_submitted_again() {
    let Some(cluster) = Cluster::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (out, plain) = (folder.path().join("out"), folder.path().join("plain"));
    // A stand-in for the program that is killed at the first cell of the list, as if for its
    // memory, until a file exists.
    let (program, healthy) = (folder.path().join("program"), folder.path().join("healthy"));
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *--cell*) if [ ! -e {0} ]; then\n  \
         case \"$*\" in *\"$(sed -n '1s/^[^ ]* //; 1s/ .*//p' {1})\"*) kill -9 $$ ;; esac\nfi ;; esac\n\
         exec {XTASK} \"$@\"\n",
        healthy.display(),
        out.join("slurm/cells").display(),
    );
    executable(&program, &text);

    let only = ["--only", "norm_equivalence,diagonal_balance"];
    let call = |options: &[&str]| {
        cluster.command(submit(&out, &program)).args(only).args(options).assert()
    };
    let held = ["--", "--hold", "--mem=500M", "--cpus-per-task=2"];
    call(&held).code(0).stdout(contains("in 1 tasks"));
    let (_, (hashes, _)) = tasks(&out).pop_first().unwrap();
    let jobs = read(out.join("slurm/jobs")).trim().to_owned();
    let (array, collect) = jobs.split_once(',').unwrap();
    call(&[]).code(3).stdout("").stderr(contains(&jobs).and(contains("scancel")));
    for job in [array, collect] {
        cluster.command(Command::new("scontrol")).args(["release", job]).assert().success();
    }
    cluster.wait();

    let (log, collected) = (logs(&out, "task-"), logs(&out, "collect-"));
    assert_eq!(cluster.ended(array), ("FAILED".to_owned(), "123:0".to_owned()), "{log}");
    assert_eq!(cluster.ended(collect), ("FAILED".to_owned(), "3:0".to_owned()), "{collected}");
    assert!(log.contains(&format!("cell {} is not computed: exit status 137", hashes[0])), "{log}");
    assert_eq!(log.matches(": computed in ").count(), hashes.len() - 1, "{log}");
    assert!(collected.starts_with(&hashes[0]), "{collected}");
    assert!(collected.contains("1 cells are missing"), "{collected}");
    assert!(!out.join("claims.json").exists());

    fs::write(&healthy, "").unwrap();
    call(&[]).code(0).stdout(contains("computes 1 cells in 1 tasks"));
    assert_eq!(tasks(&out).into_values().next().unwrap().0, hashes[..1]);
    smoke(&plain, &only);
    cluster.wait();
    assert!(outputs(&out) == outputs(&plain), "{}", logs(&out, "collect-"));
    assert_eq!(counts(&out), (0, hashes.len()));

    // When no cell is missing, only the collecting job is submitted.
    fs::remove_file(out.join("claims.json")).unwrap();
    call(&[]).code(0).stdout(contains("collects").and(contains("computes").not()));
    cluster.wait();
    assert!(outputs(&out) == outputs(&plain), "{}", logs(&out, "collect-"));
}

/// A folder of stand-ins for the programs of Slurm. `sbatch` records its arguments, one per line,
/// with an empty line after them.
fn stand_in() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let calls = folder.path().join("calls");
    let sbatch =
        format!("#!/bin/sh\nprintf '%s\\n' \"$@\" '' >>{}\necho '7;other'\n", calls.display());
    executable(&folder.path().join("sbatch"), &sbatch);
    executable(&folder.path().join("squeue"), "#!/bin/sh\nexit 1\n");
    let scontrol = "#!/bin/sh\necho 'MaxArraySize            = 1001'\n";
    executable(&folder.path().join("scontrol"), scontrol);
    folder
}

/// The arguments of each call of the stand-in for `sbatch`.
fn calls(folder: &TempDir) -> Vec<Vec<String>> {
    let text = read(folder.path().join("calls"));
    let calls = text.trim_end().split("\n\n");
    calls.map(|call| call.lines().map(str::to_owned).collect()).collect()
}

fn beside(folder: &TempDir, mut command: Command) -> Command {
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()));
    command.current_dir(folder.path());
    command
}

#[test]
fn tasks_are_of_about_equal_length() {
    let folder = stand_in();
    let plan = ["reproduce", "--profile", "paper", "--plan", "--format", "json"];
    let plan = Command::new(XTASK).args(plan).current_dir(folder.path()).assert().success();
    let plan: serde_json::Value = serde_json::from_slice(&plan.get_output().stdout).unwrap();
    let plan: BTreeMap<&str, f64> = plan
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| (cell["hash"].as_str().unwrap(), cell["estimated_seconds"].as_f64().unwrap()))
        .collect();
    let total: f64 = plan.values().sum();

    for (options, expected) in [
        (&[][..], Some((total / 600.0).ceil())),
        (&["--tasks", "7"], Some(7.0)),
        // Fewer tasks than MaxArraySize, and no more than there are cells.
        (&["--tasks", "100000"], None),
    ] {
        let command = Command::new(root().join("scripts/slurm/submit.sh"));
        beside(&folder, command).args(["--xtask", XTASK]).args(options).assert().code(0);
        let tasks = tasks(&folder.path().join("results/paper"));
        let hashes: Vec<&str> =
            tasks.values().flat_map(|(hashes, _)| hashes).map(String::as_str).collect();
        assert_eq!(hashes.len(), plan.len());
        assert!(hashes.into_iter().collect::<BTreeSet<_>>().into_iter().eq(plan.keys().copied()));
        let Some(expected) = expected else {
            assert_eq!(tasks.last_key_value().unwrap().0, &1000.min(plan.len()));
            continue;
        };
        assert_eq!((tasks.len() as f64).to_bits(), expected.to_bits());
        let least = tasks.values().map(|(_, load)| *load).fold(f64::INFINITY, f64::min);
        let most = tasks.values().map(|(_, load)| *load).fold(0.0, f64::max);
        assert!(most <= 1.01 * least, "from {least} s to {most} s");
        assert!(tasks.keys().copied().eq(1..=tasks.len()));
        // Processors of one task end together only if its short cells come last.
        for (hashes, _) in tasks.values() {
            let seconds = hashes.iter().map(|hash| plan[hash.as_str()]);
            assert!(seconds.is_sorted_by(|one, next| one >= next));
        }
    }
}

#[test]
fn what_follows_the_dashes_goes_to_both_jobs_and_may_not_break_them() {
    let folder = stand_in();
    let out = folder.path().join("out");
    let options = ["--only=norm_equivalence", "--", "--time=5", "--mem=1G", "--array=1-9"];
    let assert = beside(&folder, submit(&out, XTASK)).args(options).assert();
    assert.code(0).stdout(starts_with("job 7 computes").and(contains("--jobs=7,7\n")));
    let [array, collect] = calls(&folder).try_into().unwrap();
    for call in [&array, &collect] {
        // The last of repeated options holds.
        let last = |name: &str| call.iter().rfind(|word| word.starts_with(name)).unwrap().as_str();
        assert_eq!(last("--time="), "--time=5");
        assert_eq!(last("--mem"), "--mem=1G");
        assert!(!call.iter().any(|word| word.starts_with("--mem-per-cpu")));
    }
    assert_eq!(array.iter().rfind(|word| word.starts_with("--array=")).unwrap(), "--array=1-1");
    assert!(collect.contains(&"--dependency=afterany:7".to_owned()));
    let words = array.join(" ");
    assert!(words.contains("reproduce --only norm_equivalence --profile smoke --out"), "{words}");
}

#[test]
fn wrong_usage_submits_nothing() {
    let folder = stand_in();
    let out = folder.path().join("out");
    for (arguments, message) in [
        (&["--fresh"][..], "--fresh"),
        (&["--tasks", "few"], "few is not a number"),
        (&["--seeds"], "--seeds needs a value"),
        (&["--profile", "huge"], "smoke, quick, paper, full"),
        (&["--only", "nonsense"], "nonsense"),
        (&["--xtask", "absent"], "absent is not a program"),
    ] {
        let assert = beside(&folder, submit(&out, XTASK)).args(arguments).assert();
        assert.code(2).stdout("").stderr(contains(message));
    }
    assert!(!out.exists() && !folder.path().join("calls").exists());
    executable(&folder.path().join("sbatch"), "#!/bin/sh\nexit 1\n");
    beside(&folder, submit(&out, XTASK)).assert().code(3).stdout("");
    let help = Command::new(root().join("scripts/slurm/submit.sh")).arg("--help").assert();
    help.code(0).stdout(contains("--tasks N"));
}

fn page() -> String {
    read(root().join("docs/guide/cluster.md"))
}

#[test]
fn the_submissions_of_the_page_are_possible() {
    let folder = stand_in();
    let commands = shown(&page()).into_iter().map(Result::unwrap);
    let is_submission = |words: &Vec<String>| words[0].ends_with("submit.sh");
    let submissions: Vec<Vec<String>> =
        commands.map(|command| command.words).filter(is_submission).collect();
    assert!(!submissions.is_empty());
    for words in submissions {
        let command = Command::new(root().join(&words[0]));
        beside(&folder, command).args(["--xtask", XTASK]).args(&words[1..]).assert().code(0);
    }
}

#[test]
fn the_loop_of_the_page_leaves_nothing_to_compute() {
    let folder = stand_in();
    let (out, plain) = (folder.path().join("out"), folder.path().join("plain"));
    // A folder that is not that of the repository, as on another machine.
    executable(&folder.path().join("ssh"), "#!/bin/sh\necho \"$1\" >>hosts\nexec bash -c \"$2\"\n");
    let block = pieces(&page()).into_iter().find_map(|placed| match placed.piece {
        Piece::Block { text, .. } if text.contains("ssh") => Some(text),
        _ => None,
    });
    let block = block.unwrap();
    let (first, rest) = block.split_once('\n').unwrap();
    assert!(first.starts_with("reproduce="));
    let script = format!(
        "set -e\nreproduce='{XTASK} reproduce --profile smoke --out {}'\n{rest}",
        out.display()
    );
    let assert = beside(&folder, Command::new("bash")).args(["-c", &script]).assert();
    assert.code(predicate::in_iter([0, 1])).stdout(contains("report.html"));
    assert_eq!(read(folder.path().join("hosts")).lines().count(), 3);
    smoke(&plain, &[]);
    assert!(outputs(&out) == outputs(&plain));
    let (computed, reused) = counts(&plain);
    assert_eq!(counts(&out), (reused, computed));
}
