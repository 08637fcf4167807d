mod answers;
mod engine;
mod ids;
mod random;
mod sessions;
mod splits;
mod stage;
mod wire;
