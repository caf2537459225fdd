# What a person and CI type. Nothing else is needed on a fresh machine than Go and npm.

GO   ?= go
LINT := $(GO) tool -modfile=tools/go.mod

.DEFAULT_GOAL := build
.PHONY: build demo test nightly check release bench vuln

build: ## one static binary, bin/cardea
	@test -e bin/cardea || echo 'building bin/cardea: the first build takes about a minute, and names each package when it is compiled…'
	CGO_ENABLED=0 $(GO) build -v -trimpath -ldflags='-s -w' -o bin/cardea ./cmd/cardea

demo: build ## the authorization server on :8080 and an MCP server behind it on :8081
	@bin/cardea demo

test: ## installs what is missing, then runs everything
	@test/run

nightly: ## what is too large for every run: all tests with the race detector, a release, Codex (400 MB from npm)
	@test/nightly

check: ## formatting, vet and lint; the first run builds the linter, which takes minutes
	@test -z "$$(gofmt -l .)" || { echo "gofmt -w these:"; gofmt -l .; exit 1; }
	$(GO) vet ./... && $(GO) vet -tags failpoints ./internal/store/...
	$(LINT) golangci-lint run

release: ## archives, packages, checksums and SBOM of VERSION in dist; see tools/release/build
	tools/release/build $(VERSION) dist

bench: build ## throughput beside the least that could do the same, server and load on a core each; fails below the floors
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench ./bench
	GOMAXPROCS=1 taskset -c 1 bin/bench

vuln: ## known vulnerabilities in what is linked; needs the internet
	$(LINT) govulncheck ./...
