package servers

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() {
	programs["farm"] = farm
	programs["user"] = asUser
}

// remains are what a process must not leave behind.
type remains struct {
	Folders []string
	Pids    []int
}

// farm starts a bit of everything, with one server frozen, says what it has
// started, and waits to be killed.
func farm(ctx context.Context) error {
	p, err := StartPostgres(ctx, &PostgresOptions{Standby: true, NoFsync: true})
	if err != nil {
		return err
	}
	b, err := StartPgBouncer(ctx, p.Primary, nil)
	if err != nil {
		return err
	}
	if err := p.Primary.Freeze(); err != nil {
		return err
	}
	json.NewEncoder(os.Stdout).Encode(remains{[]string{p.group.dir, b.group.dir}, descendants(os.Getpid())})
	if os.Getenv("SERVERS_TEST_PANIC") != "" {
		panic("as a test might")
	}
	select {} // with no deadlock, as the supervisors are listened to
}

// again returns a command that runs this binary as one of programs.
func again(t *testing.T, program string, env ...string) *exec.Cmd {
	exe, err := os.Executable()
	do(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), append(env, "SERVERS_TEST_PROGRAM="+program)...)
	return cmd
}

func TestNothingOutlivesItsProcess(t *testing.T) {
	for _, how := range []string{"SIGKILL", "panic"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			needs(t)
			cmd := again(t, "farm")
			if how == "panic" {
				cmd.Env = append(cmd.Env, "SERVERS_TEST_PANIC=1")
			}
			out, err := cmd.StdoutPipe()
			do(t, err)
			do(t, cmd.Start())
			var left remains
			if err := json.NewDecoder(bufio.NewReader(out)).Decode(&left); err != nil {
				t.Fatalf("the farm did not start: %v, %v", err, cmd.Wait())
			}
			// Two supervisors, three servers, and what PostgreSQL forks.
			if len(left.Folders) != 2 || len(left.Pids) < 10 {
				t.Fatalf("started: %+v", left)
			}
			if how == "SIGKILL" {
				do(t, cmd.Process.Kill())
			}
			cmd.Wait()
			wantGone(t, left)
		})
	}
}

// needs skips the test without the programs.
func needs(t *testing.T) {
	t.Helper()
	if _, err := postgresPrograms(""); err != nil {
		t.Skip(err)
	}
	if _, err := program("", "/usr/sbin", "pgbouncer", pgbouncerInstall); err != nil {
		t.Skip(err)
	}
}

// wantGone waits for as long as it takes, and fails when it takes too long.
func wantGone(t *testing.T, left remains) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var there []string
		for _, pid := range left.Pids {
			if p, ok := readProc(fmt.Sprintf("/proc/%d/stat", pid)); ok && !p.dead() {
				there = append(there, strconv.Itoa(pid))
			}
		}
		for _, dir := range left.Folders {
			if _, err := os.Stat(dir); err == nil {
				there = append(there, dir)
			}
		}
		if len(there) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %s", strings.Join(there, ", "))
		}
	}
}

func TestStopLeavesNothing(t *testing.T) {
	t.Parallel()
	p := postgres(t, &PostgresOptions{Standby: true, NoFsync: true})
	b := bouncer(t, p.Primary, nil)
	left := remains{[]string{p.group.dir, b.group.dir}, slices.Concat(
		tree(p.group.cmd.Process.Pid), tree(b.group.cmd.Process.Pid))}
	if len(left.Pids) < 10 {
		t.Fatalf("processes: %d", left.Pids)
	}
	do(t, p.Primary.Freeze())
	do(t, p.Standby.Kill())
	b.Stop()
	p.Stop()
	for _, pid := range left.Pids {
		if info, ok := readProc(fmt.Sprintf("/proc/%d/stat", pid)); ok && !info.dead() {
			t.Errorf("process %d runs after Stop", pid)
		}
	}
	for _, dir := range left.Folders {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is there after Stop", dir)
		}
	}
}

func tree(pid int) []int { return append(descendants(pid), pid) }

func TestKillAndFreezeAreForAllProcesses(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	connect(t, p.Primary.URL()).send("SELECT 1;")
	main, err := p.Primary.alive()
	do(t, err)
	do(t, p.Primary.Freeze())
	all := tree(main.pid)
	if len(all) < 6 {
		t.Errorf("%d processes, want the postmaster and at least five of its own", len(all))
	}
	for _, pid := range all {
		if info, _ := readProc(fmt.Sprintf("/proc/%d/stat", pid)); !info.stopped() {
			t.Errorf("process %d is in state %c after Freeze", pid, info.state)
		}
	}
	do(t, p.Primary.Thaw())
	for _, pid := range all {
		if info, ok := readProc(fmt.Sprintf("/proc/%d/stat", pid)); ok && info.stopped() {
			t.Errorf("process %d is stopped after Thaw", pid)
		}
	}
	do(t, p.Primary.Kill())
	for _, pid := range all {
		if info, ok := readProc(fmt.Sprintf("/proc/%d/stat", pid)); ok && !info.dead() {
			t.Errorf("process %d is in state %c after Kill", pid, info.state)
		}
	}
}

// A killed PostgreSQL leaves shared memory to the machine, which has room for
// few thousand such pieces.
func TestKillLeavesNoSharedMemory(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	fields := strings.Fields(readLines(filepath.Join(p.group.dir, "primary", "postmaster.pid"))[6])
	if len(fields) != 2 || !segments(t)[fields[1]] {
		t.Fatalf("the segment %v is not among %v", fields, segments(t))
	}
	do(t, p.Primary.Kill())
	if segments(t)[fields[1]] {
		t.Errorf("the segment %s is there after Kill", fields[1])
	}
}

// segments are the System V segments of the machine by id.
func segments(t *testing.T) map[string]bool {
	ids := make(map[string]bool)
	data, err := os.ReadFile("/proc/sysvipc/shm")
	do(t, err)
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			ids[fields[1]] = true
		}
	}
	return ids
}

// What ignores its order to end is killed, and so is what has run away from its
// parent into a session of its own.
func TestSupervisorEndsWhatWillNotGo(t *testing.T) {
	t.Parallel()
	s, err := supervised(nil)
	do(t, err)
	defer s.stop()
	log := filepath.Join(s.dir, "sh.log")
	_, err = s.start(spec{Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; (setsid sleep 1000 &); sleep 1000; sleep 1000"}, Log: log, End: syscall.SIGTERM})
	do(t, err)
	left := remains{Folders: []string{s.dir}}
	for asleep := 0; asleep < 2; {
		asleep = 0
		left.Pids = descendants(s.cmd.Process.Pid)
		for _, pid := range left.Pids {
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) == "sleep\n" {
				asleep++
			}
		}
	}
	s.stop()
	for _, pid := range left.Pids {
		if info, ok := readProc(fmt.Sprintf("/proc/%d/stat", pid)); ok && !info.dead() {
			t.Errorf("process %d runs after stop", pid)
		}
	}
	wantGone(t, left)
}

// If somebody kills the supervisor, its servers do not live on either.
func TestServersDieWithTheirSupervisor(t *testing.T) {
	t.Parallel()
	p := postgres(t, nil)
	left := remains{Pids: tree(p.group.cmd.Process.Pid)}
	do(t, p.group.cmd.Process.Kill())
	wantGone(t, left)
	dropSharedMemory(filepath.Join(p.group.dir, "primary", "postmaster.pid")) // nobody was left to
	if err := p.Primary.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "supervisor") {
		t.Errorf("Start: %v", err)
	}
	p.Stop()
	if _, err := os.Stat(p.group.dir); err == nil {
		t.Errorf("%s is there after Stop", p.group.dir)
	}
}

func TestItRunsAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else; the other tests run as an ordinary user already")
	}
	needs(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	// The binary lies where only root may go.
	dir, err := os.MkdirTemp("/var/tmp", "roam-servers-test-")
	do(t, err)
	defer os.RemoveAll(dir)
	do(t, os.Chmod(dir, 0o755))
	exe, err := os.Executable()
	do(t, err)
	binary, err := os.ReadFile(exe)
	do(t, err)
	do(t, os.WriteFile(filepath.Join(dir, "test"), binary, 0o755))
	cmd := again(t, "user", "TMPDIR=/var/tmp")
	cmd.Path, cmd.Dir = filepath.Join(dir, "test"), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func asUser(ctx context.Context) error {
	p, err := StartPostgres(ctx, &PostgresOptions{Standby: true, NoFsync: true})
	if err != nil {
		return err
	}
	defer p.Stop()
	b, err := StartPgBouncer(ctx, p.Primary, nil)
	if err != nil {
		return err
	}
	defer b.Stop()
	if err := p.Primary.Kill(); err != nil {
		return err
	}
	if err := p.Primary.Start(ctx); err != nil {
		return err
	}
	main, err := p.Primary.alive()
	if err != nil {
		return err
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d", main.pid))
	if err != nil {
		return err
	}
	if uid, _ := ownerOf(info); int(uid) != os.Getuid() {
		return fmt.Errorf("the server runs as %d, and not as %d", uid, os.Getuid())
	}
	got, err := p.Primary.Query(ctx, "SELECT 1")
	fmt.Println(got)
	return err
}

// Root's temporary folder may be closed to the user whom the server runs as.
func TestAPrivateTemporaryFolderIsAvoided(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: an ordinary user's servers can go where the user can")
	}
	private, err := os.MkdirTemp("/var/tmp", "roam-servers-test-") // has the mode 0700
	do(t, err)
	t.Cleanup(func() { os.RemoveAll(private) })
	t.Setenv("TMPDIR", private)
	p := postgres(t, nil)
	if strings.HasPrefix(p.group.dir, private) {
		t.Errorf("the folder is %s", p.group.dir)
	}
	do(t, os.Chmod(private, 0o711))
	p = postgres(t, nil)
	if !strings.HasPrefix(p.group.dir, private) {
		t.Errorf("the folder is %s, want one in %s", p.group.dir, private)
	}
	// Nobody else may look into it.
	info, err := os.Stat(p.group.dir)
	do(t, err)
	if info.Mode().Perm()&fs.FileMode(0o077) != 0 {
		t.Errorf("the folder has the mode %v", info.Mode())
	}
}
