//! Examples at the end of each command's help.

pub(super) const ALL: &str = "\
Try it:
  image2model-gateway                    run the service, with a Redis of its own
  image2model-gateway demo               and, elsewhere, play a job against it
  image2model-gateway routes             what it answers to

Run it:
  image2model-gateway --config prod.toml check-config    are the settings right, and which are in force?
  image2model-gateway --config prod.toml serve
  image2model-gateway health --wait 30 || exit           in a script that has just started it

Exit codes:
  0  done          1  failed                2  wrong arguments
  3  bad settings  4  no service answers    5  the service is not ready";

pub(super) const SERVE: &str = "\
Examples:
  image2model-gateway serve                              with a Redis of its own, in data/redis
  image2model-gateway --config prod.toml serve           as these settings say
  I2M__REDIS__URL=redis://db:6379 image2model-gateway    with the Redis there

Signals:
  SIGTERM  stop: not ready at once, streams move over to others, what runs is finished
  SIGHUP   load keys, ticket secrets and certificates again";

pub(super) const DEMO: &str = "\
Examples:
  image2model-gateway demo                               with the pictures of docs/demo-pictures
  image2model-gateway demo --folder ~/Pictures           with these, of which only names and sizes are sent
  image2model-gateway demo --url http://gateway:8080     against the service there";

pub(super) const HEALTH: &str = "\
Examples:
  image2model-gateway health                             the service of the settings, on this machine
  image2model-gateway health --wait 30 || exit           in a script that has just started it
  image2model-gateway health --url https://gateway.example

Exit codes:
  0  ready    4  no service answers    5  it is not ready";

pub(super) const CLEANUP: &str = "\
Examples:
  image2model-gateway cleanup --dry-run                  what would be done?
  image2model-gateway --config prod.toml cleanup         do it; the service may run meanwhile";

pub(super) const MIGRATE: &str = "\
Examples:
  image2model-gateway migrate --status                   which changes are applied, which are pending?
  image2model-gateway --config prod.toml migrate         before the new version starts, so that it is ready sooner";

pub(super) const CHECK_CONFIG: &str = "\
Examples:
  image2model-gateway --config prod.toml check-config && echo good
  image2model-gateway check-config | grep -A 3 '^.redis.'

Exit codes:
  0  the settings are good    3  they are not; what is wrong and what is allowed stands in the message";

pub(super) const CONFIG_REFERENCE: &str = "\
Examples:
  image2model-gateway config-reference > docs/CONFIGURATION.md
  image2model-gateway config-reference | grep timeout";

pub(super) const ROUTES: &str = "\
Examples:
  image2model-gateway routes | grep admin                what may operators do?
  image2model-gateway routes --openapi > openapi.json    for a generator of clients";

pub(super) const COMPLETIONS: &str = "\
Examples:
  image2model-gateway completions bash > ~/.local/share/bash-completion/completions/image2model-gateway
  image2model-gateway completions zsh > ~/.zfunc/_image2model-gateway
  image2model-gateway completions fish > ~/.config/fish/completions/image2model-gateway.fish";
