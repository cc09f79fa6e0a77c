# Needs rustup, a C compiler, Go, make, and util-linux (flock, setsid).
.DEFAULT_GOAL := help
.PHONY: help demo test chaos sim lint chart install.yaml image e2e cluster cluster-down test-sdk test-flux test-argocd fmt clean kube toolchain

# Asked, not assumed: CARGO_TARGET_DIR and cargo's configuration may move it.
target = $$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

help: ## list the targets
	@sed -n 's/^\([a-z0-9.-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: kube ## run a whole rollout here, or with EXAMPLE=bad-firmware one that is stopped; KEEP=1 leaves it running
	cargo build --locked --bin fota --example demo
	@exec "$(target)/debug/examples/demo"

test: kube ## run every test against a real etcd and kube-apiserver
	cargo test --locked --features sabotage

chaos: kube ## kill operators at every request and stop, cut and lose all else, for some ten minutes; no job may be made twice
	cargo build --locked --bin fota --example chaos
	@exec "$(target)/debug/examples/chaos"

# SEEDS, FROM, JOBS, EXHAUSTIVE, SABOTAGE and REPLAY are read from the environment, which make hands on.
sim: ## simulate SEEDS=100000 random schedules of faults on all cores; EXHAUSTIVE=1, SABOTAGE=1, REPLAY=FILE
	cargo build --locked --profile sim --features sabotage --example sim
	@exec "$(target)/sim/examples/sim"

lint: toolchain ## check formatting, clippy, documentation, scripts, workflows, and what is linked (deny.toml)
	cargo fmt --check
	cargo clippy --locked --all-targets --features sabotage -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --lib
	@for script in .ci/run .ci/e2e $$(find . -name target -prune -o -name '*.sh' -print); do bash -n "$$script" || exit 1; \
	  if grep -nE '\|[[:space:]]*grep -[a-zA-Z]*q' "$$script"; then \
	    echo "$$script: grep -q breaks the pipe, which pipefail takes for a failure: give it <<<" >&2; exit 1; fi; done
	@deny=$$(tests/deny/build.sh) && "$$deny" --locked check --deny warnings licenses bans sources
	@go -C tests/actionlint tool actionlint -shellcheck= -pyflakes= "$(CURDIR)"/.github/workflows/*.yml

chart: kube ## lint the Helm chart and have a real API server judge every variant of it
	cargo build --locked --example cluster
	@tests/chart/check.sh "$(target)/debug/examples/cluster"

install.yaml: ## render the chart into one file for kubectl apply -f
	@tests/chart/check.sh render >$@.part && mv $@.part $@

image: ## build the container image as an OCI archive, without Docker, and its SBOM
	@image/build.sh

e2e: ## install, upgrade, break and uninstall it on a real cluster: kind, or KUBECONFIG and E2E_LOAD (tests/e2e/run.sh)
	@archive=$$(image/build.sh) && if [ -n "$$E2E_LOAD" ]; then exec tests/e2e/run.sh "$$archive"; \
	  else exec tests/e2e/kind.sh "$$archive"; fi

cluster: kube ## start the test control plane in the background and print its kubeconfig
	cargo build --locked --example cluster
	@exec "$(target)/debug/examples/cluster" up

cluster-down: ## stop what `make cluster` started
	cargo build --locked --example cluster
	@exec "$(target)/debug/examples/cluster" down

test-sdk: ## let the vendor's Python clients call every operation of the simulated cloud (Python 3 with venv, PyPI)
	cargo build --locked --bin fota
	@FOTA="$(target)/debug/fota" tests/sdk/run.sh

test-flux: ## judge every status that the operator can write by kstatus, as Flux does (Go)
	@go -C tests/flux vet ./... && go -C tests/flux test -count=1 ./...

test-argocd: kube ## run the examples for Argo CD under the real Argo CD: every fixture, and a story of rollouts out of Git
	@tests/argocd/tools.sh && tests/argocd/render.sh check && tests/argocd/build.sh >/dev/null
	cargo build --locked --bin fota --example argocd
	@exec "$(target)/debug/examples/argocd"

fmt: toolchain ## format the Rust sources
	cargo fmt

clean: ## remove cargo's output (the control plane's programs stay in the cache)
	cargo clean

# First and by itself: where the programs must be built, the wait is seen and explained.
kube:
	@tests/kube/build.sh >/dev/null

toolchain:
	@cargo fmt --version >/dev/null && cargo clippy --version >/dev/null || \
	  { echo "clippy or rustfmt is missing: rustup component add clippy rustfmt" >&2; exit 1; }
