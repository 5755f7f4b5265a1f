# pmtulab: two commands matter, "make run" and "make test"; "make help" lists the rest.

SHELL      := /bin/bash
export CGO_ENABLED = 0
GO         ?= go
BIN        := bin/pmtulab
SOURCES    := $(shell git ls-files --cached --others --exclude-standard '*.go' 'scenarios/*.yaml' 'lab/report/page/*' 'docs/schema/*.json' go.mod go.sum 2>/dev/null)
BUILDFLAGS := -trimpath -ldflags='-s -w'

.PHONY: run
run: build deps ## reproduce the field report on a real kernel, and explain it
	./$(BIN) run report

.PHONY: test
test: test-deps build ## every test: unit tests, then the specs and package tests that need a kernel
	scripts/test

.PHONY: mutants
mutants: test-deps build ## the specs against programs and networks with known faults, each of which must be found
	scripts/mutants

.PHONY: build
build: $(BIN) ## the static binary, bin/pmtulab

$(BIN): $(SOURCES)
	$(GO) build $(BUILDFLAGS) -o $@ ./cmd/pmtulab

.PHONY: deps
deps: ## install the host packages that are missing
	@scripts/install

.PHONY: test-deps
test-deps:
	@scripts/install test

.PHONY: lint
lint: ## formatting, go vet, golangci-lint
	scripts/lint

.PHONY: bench
bench: test-deps build ## every figure that the documentation names, with its floor
	scripts/bench

.PHONY: soak
soak: test-deps build ## 300 runs of the report, 100 guests in QEMU, 1,000 networks up and down, 1,000,000 packets
	scripts/soak

.PHONY: slurm
slurm: test-deps build ## a matrix as a Slurm job array on this machine, and its shards put together
	scripts/slurm/try

.PHONY: man
man: ## manual pages, into out/man
	$(GO) test ./cmd/pmtulab -count=1 -run '^TestManualPages$$' -man $(CURDIR)/out/man

.PHONY: clean
clean: ## remove what was built
	rm -rf bin out

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 10
