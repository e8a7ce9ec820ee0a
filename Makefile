# make test     every test of every module, with the race detector
# make lint     gofmt, go vet, staticcheck, govulncheck
# make drill    the proof: three designs, three faults, one table
# make fuzz     each fuzz target for FUZZTIME
# make bench    roam beside other libraries: a quarter of an hour, writes docs/performance.md
# make bench-quick   the same in three minutes, rougher
# make bench-library the benchmarks of the library
# make bench-stores  those of the stores, beside raw loops of their drivers
# make tidy     go mod tidy in every module

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZTIME    = 30s
TESTFLAGS   =

# Every module of the workspace, so that a new one needs no list.
DIRS     = $$(go list -m -f '{{.Dir}}')
PACKAGES = $$(go list -m -f '{{.Dir}}/...')

.PHONY: test lint drill fuzz bench bench-quick bench-library bench-stores tidy prepare

test: prepare
	@race=; if command -v gcc >/dev/null && [ "$$(go env CGO_ENABLED)" = 1 ]; then race=-race; \
	else echo "make test: without gcc the race detector cannot run; install gcc and libc6-dev to have it"; fi; \
	go test $$race -timeout 15m $(TESTFLAGS) $(PACKAGES)

# What the tests need and Go does not bring: a C compiler for the race
# detector, and the servers that tests start, kill and remove by themselves, on
# private ports. As root what is missing is installed, and what its packages
# start by themselves is stopped. Some tests need root for themselves.
prepare:
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0; export DEBIAN_FRONTEND=noninteractive; \
	want=""; \
	command -v gcc >/dev/null || want="$$want gcc libc6-dev"; \
	command -v pgbouncer >/dev/null || want="$$want pgbouncer"; \
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || want="$$want postgresql"; \
	command -v redis-server >/dev/null || want="$$want redis-server"; \
	[ -n "$$want" ] || exit 0; \
	echo "make test: installing$$want"; \
	apt-get update -q && apt-get install -y -q --no-install-recommends $$want || exit 1; \
	for s in pgbouncer postgresql redis-server; do case "$$want" in *$$s*) \
	systemctl disable --now $$s >/dev/null 2>&1 || service $$s stop >/dev/null 2>&1 || true;; esac; done
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || \
	echo "make test: PostgreSQL is not installed, so all that needs it is skipped (internal/servers, store/postgresstore, conformance, the drill on it); get it with: apt-get install postgresql pgbouncer"
	@command -v pgbouncer >/dev/null || echo "make test: PgBouncer is not installed, so its tests are skipped; get it with: apt-get install pgbouncer"
	@command -v redis-server >/dev/null || echo "make test: Redis is not installed, so what needs it is skipped (internal/servers, bench); get it with: apt-get install redis-server"
	@[ "$$(id -u)" = 0 ] || echo "make test: not root, so these are skipped: a full disk and a read-only file system (store/sqlitestore), a stranger at the control socket (cmd/roam/internal/farm); run it as root to have them"

lint:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-clean:"; gofmt -l .; exit 1; }
	go vet $(PACKAGES)
	go run $(STATICCHECK) $(PACKAGES)
	@for dir in $(DIRS); do ( cd $$dir && out=$$(go run $(GOVULNCHECK) ./... 2>&1); code=$$?; \
	if [ $$code = 0 ]; then echo "govulncheck $$(basename $$dir): no known vulnerability is called"; \
	elif echo "$$out" | grep -qE 'dial tcp|no such host|403 Forbidden|connection refused|unexpected status|fetching vulnerabilities'; then echo "govulncheck: its database cannot be reached from here; skipped"; \
	else echo "$$out"; exit $$code; fi ) || exit 1; done

drill:
	go run ./cmd/roam drill

fuzz:
	@for dir in $(DIRS); do for pkg in $$(cd $$dir && go list ./...); do \
	for target in $$(go test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
	echo "$$pkg $$target" && go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; done; done; done

# The measurements are kept too, so that a second run can be held against the
# first: go run ./bench -compare bench.json
bench: prepare
	go run ./bench -json bench.json

bench-quick: prepare
	go run ./bench -quick

bench-library:
	go test -run '^$$' -bench . -benchmem .

# Each loop of a store and the raw one of its driver run in one process, in
# turns, so that their ratio means something on a busy machine.
bench-stores:
	go test -run '^$$' -bench . -benchmem ./store/sqlitestore ./store/postgresstore

# The modules find one another through go.work, which go mod tidy does not
# read: while it runs, each go.mod gets the same replacements.
tidy:
	@root=$$PWD; for dir in $(DIRS); do ( cd $$dir && \
	for m in "" /storetest /store/sqlitestore /store/postgresstore /internal/servers; do go mod edit -replace github.com/roam-web/roam$$m=$$root$$m; done; \
	GOWORK=off go mod tidy; code=$$?; \
	for m in "" /storetest /store/sqlitestore /store/postgresstore /internal/servers; do go mod edit -dropreplace github.com/roam-web/roam$$m; done; exit $$code ) || exit 1; done
