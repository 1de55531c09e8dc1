//! Examples that follow the help text of each command.

pub(super) const ALL: &str = "\
Try it:
  image2model-gateway                    run the service with an embedded Redis
  image2model-gateway demo               in another terminal: simulate a job
  image2model-gateway routes             list its routes

Run it:
  image2model-gateway --config prod.toml check-config    validate and print the settings
  image2model-gateway --config prod.toml serve
  image2model-gateway health --wait 30 || exit           wait in a script until it is ready

Exit codes:
  0  success           1  failure                2  invalid arguments
  3  invalid settings  4  service unreachable    5  service not ready";

pub(super) const SERVE: &str = "\
Examples:
  image2model-gateway serve                              with an embedded Redis in data/redis
  image2model-gateway --config prod.toml serve           with settings from a file
  I2M__REDIS__URL=redis://db:6379 image2model-gateway    with another Redis

Signals:
  SIGTERM  shut down: become unready, close streams so that browsers reconnect elsewhere, finish requests
  SIGHUP   reload keys, ticket secrets and certificates";

pub(super) const DEMO: &str = "\
Examples:
  image2model-gateway demo                               with the pictures in docs/demo-pictures
  image2model-gateway demo --folder ~/Pictures           with other pictures; only names and sizes are sent
  image2model-gateway demo --url http://gateway:8080     against another service";

pub(super) const HEALTH: &str = "\
Examples:
  image2model-gateway health                             check the local service
  image2model-gateway health --wait 30 || exit           wait in a script until it is ready
  image2model-gateway health --url https://gateway.example

Exit codes:
  0  ready    4  service unreachable    5  service not ready";

pub(super) const CLEANUP: &str = "\
Examples:
  image2model-gateway cleanup --dry-run                  count the changes only
  image2model-gateway --config prod.toml cleanup         clean up, also while the service runs";

pub(super) const MIGRATE: &str = "\
Examples:
  image2model-gateway migrate --status                   list applied and pending migrations
  image2model-gateway --config prod.toml migrate         migrate before a new version starts, so that it is ready sooner";

pub(super) const CHECK_CONFIG: &str = "\
Examples:
  image2model-gateway --config prod.toml check-config && echo good
  image2model-gateway check-config | grep -A 3 '^.redis.'

Exit codes:
  0  the settings are valid    3  invalid; the message names the setting and the allowed values";

pub(super) const CONFIG_REFERENCE: &str = "\
Examples:
  image2model-gateway config-reference > docs/CONFIGURATION.md
  image2model-gateway config-reference | grep timeout
  image2model-gateway config-reference --format defaults > config/default.toml";

pub(super) const ROUTES: &str = "\
Examples:
  image2model-gateway routes | grep admin                list the admin routes
  image2model-gateway routes --openapi > openapi.json    for a client generator";

pub(super) const COMPLETIONS: &str = "\
Examples:
  image2model-gateway completions bash > ~/.local/share/bash-completion/completions/image2model-gateway
  image2model-gateway completions zsh > ~/.zfunc/_image2model-gateway
  image2model-gateway completions fish > ~/.config/fish/completions/image2model-gateway.fish";
