//! The small commands, one file each, and the dispatch to all.

mod allocation;
mod audit;
mod completions;
mod config;
mod costs;
mod coverage;
mod dialects;
mod doctor;
mod explain;
mod keys;
mod lake;
mod mcp;
mod prices;
mod report;
mod settle;
mod sql;
mod tools;
mod trace;

use crate::cli::{
    Cli, Command, CostsArgs, DemoArgs, ExplainArgs, ImportArgs, ReportArgs, ServeArgs, SettleArgs, SqlArgs, ToolsArgs,
    TraceArgs,
};
use crate::config::{Config, Flags};
use crate::exit::Outcome;
use crate::{capture, demo, import, serve, telemetry};

/// Stack of a worker thread. Planning a deep SQL expression recurses.
const WORKER_STACK_BYTES: usize = 8 << 20;

/// Runs a command to its end.
///
/// # Errors
/// Whatever the command could not do; [`crate::exit::exit_code`] tells the code.
pub fn run(cli: Cli) -> anyhow::Result<Outcome> {
    if let Command::Completions(args) = &cli.command {
        return completions::run(args);
    }
    let config = Config::load(flags(&cli))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(WORKER_STACK_BYTES)
        .build()?;
    let outcome = runtime.block_on(dispatch(cli.command, config));
    // What still blocks in the background (a file being read) does not keep the process alive.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: Command, config: Config) -> anyhow::Result<Outcome> {
    if !matches!(command, Command::Serve(_) | Command::Demo(_)) {
        telemetry::start_logs(&config.log.filter.value)?;
    }
    match command {
        Command::Serve(args) => serve::run(&args, config).await,
        Command::Demo(args) => demo::run(&args, config).await,
        Command::Import(args) => import::run(&args, &config).await,
        Command::Sql(args) => sql::run(&args, &config).await,
        Command::Costs(args) => costs::run(&args, &config).await,
        Command::Tools(args) => tools::run(&args, &config).await,
        Command::Trace(args) => trace::run(&args, &config).await,
        Command::Explain(args) => explain::run(&args, &config).await,
        Command::Dialects(command) => dialects::run(&command, &config),
        Command::Capture(args) => capture::run(&args, config).await,
        Command::Report(args) => report::run(&args, &config).await,
        Command::Prices(command) => prices::run(&command, &config).await,
        Command::Allocation(command) => allocation::run(&command, &config).await,
        Command::Lake(command) => lake::run(&command, &config).await,
        Command::Settle(args) => settle::run(&args, &config).await,
        Command::Mcp(args) => mcp::run(&args, &config).await,
        Command::Keys(command) => keys::run(&command, &config).await,
        Command::Audit(args) => audit::run(&args, &config).await,
        Command::Doctor(args) => doctor::run(&args, &config).await,
        Command::Config(command) => config::run(&command, &config),
        Command::Completions(args) => completions::run(&args),
    }
}

/// What the command line says about settings, wherever a command has them.
fn flags(cli: &Cli) -> Flags {
    let mut flags = Flags {
        config: cli.config.clone(),
        log: cli.log.clone(),
        ..Flags::default()
    };
    let mut of_server = |args: &ServeArgs| {
        flags.data.clone_from(&args.data);
        flags.http = args.http;
        flags.otlp_grpc = args.otlp_grpc;
        flags.otlp_http = args.otlp_http;
        flags.access = args.access;
        flags.public_url.clone_from(&args.public_url);
        flags.conformance_fixtures = args.conformance_fixtures;
    };
    match &cli.command {
        Command::Serve(args) | Command::Demo(DemoArgs { serve: args, .. }) => of_server(args),
        Command::Import(ImportArgs { at, .. })
        | Command::Sql(SqlArgs { at, .. })
        | Command::Costs(CostsArgs { at, .. })
        | Command::Tools(ToolsArgs { at, .. })
        | Command::Trace(TraceArgs { at, .. })
        | Command::Explain(ExplainArgs { at, .. })
        | Command::Report(ReportArgs { at, .. })
        | Command::Settle(SettleArgs { at, .. }) => {
            flags.data.clone_from(&at.data);
            flags.tenant.clone_from(&at.tenant);
        }
        Command::Capture(args) => {
            flags.otlp_grpc = args.otlp_grpc;
            flags.otlp_http = args.otlp_http;
        }
        Command::Lake(
            crate::cli::LakeCommand::Stats(args)
            | crate::cli::LakeCommand::Verify(args)
            | crate::cli::LakeCommand::Compact(args),
        ) => {
            flags.data.clone_from(&args.data);
        }
        Command::Lake(crate::cli::LakeCommand::Retain(args)) => flags.data.clone_from(&args.lake.data),
        Command::Mcp(args) => {
            flags.data.clone_from(&args.data);
            flags.tenant.clone_from(&args.tenant);
        }
        Command::Keys(command) => {
            flags.data = command.data().cloned();
            flags.tenant = command.tenant().cloned();
        }
        Command::Audit(args) => {
            flags.data.clone_from(&args.data);
            flags.tenant.clone_from(&args.tenant);
        }
        Command::Doctor(args) => {
            flags.data.clone_from(&args.at.data);
            flags.tenant.clone_from(&args.at.tenant);
        }
        Command::Prices(command) => {
            flags.data = command.data().cloned();
            flags.tenant = command.tenant().cloned();
        }
        Command::Allocation(command) => {
            flags.data = command.data().cloned();
            flags.tenant = command.tenant().cloned();
        }
        Command::Dialects(_) | Command::Config(_) | Command::Completions(_) => {}
    }
    flags
}
