//! The broker as its callers meet it, over a socket, with the device table and the launcher
//! replaced: what can be shown without a real pool.
#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]

#[cfg(test)]
mod client;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hung;
#[cfg(test)]
mod launcher;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod link;
#[cfg(test)]
mod mounts;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod teardown;
#[cfg(test)]
mod verbs;
mod verify;
