//! The topology of a cluster, parsed from the text of `CLUSTER NODES`.

use super::super::endpoint::Node;

/// A cluster as one of its nodes reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClusterTopology {
    /// The highest configuration epoch of a primary with slots; each failover and each slot migration raises it.
    pub(super) epoch: u64,
    /// Primaries with slots, sorted by their first slot.
    pub(super) shards: Vec<Shard>,
}

/// A primary with its slots and replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) primary: Node,
    /// Healthy replicas that are connected to the cluster.
    pub(super) replicas: Vec<Node>,
    /// First and last slot of each range.
    slots: Vec<(u16, u16)>,
}

impl ClusterTopology {
    /// Parses the reply of the node at `asked`, which may not know its own address.
    pub(super) fn parse(text: &str, asked: &Node) -> Self {
        let entries: Vec<NodeEntry<'_>> =
            text.lines().filter_map(|line| NodeEntry::parse(line, asked)).collect();
        let primaries =
            || entries.iter().filter(|entry| entry.has_flag("master") && !entry.slots.is_empty());
        let replicas = |primary: &NodeEntry<'_>| {
            entries
                .iter()
                .filter(|entry| entry.has_flag("slave") && entry.is_healthy())
                .filter(|entry| entry.primary_id == primary.id)
                .map(|entry| entry.node.clone())
                .collect()
        };
        let mut shards: Vec<Shard> = primaries()
            .map(|primary| Shard {
                primary: primary.node.clone(),
                replicas: replicas(primary),
                slots: primary.slots.clone(),
            })
            .collect();
        shards.sort_by_key(|shard| shard.slots.first().copied());
        let epoch = primaries().map(|primary| primary.epoch).max().unwrap_or(0);
        Self { epoch, shards }
    }

    /// All primaries and healthy replicas.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.shards.iter().flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas))
    }
}

impl Shard {
    pub(super) fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// `id address flags primary ping pong epoch link slot...` (Redis documentation, *CLUSTER NODES*).
struct NodeEntry<'a> {
    id: &'a str,
    node: Node,
    flags: &'a str,
    primary_id: &'a str,
    epoch: u64,
    link: &'a str,
    slots: Vec<(u16, u16)>,
}

impl<'a> NodeEntry<'a> {
    fn parse(line: &'a str, asked: &Node) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
        let (primary_id, _ping, _pong) = (words.next()?, words.next()?, words.next()?);
        let (epoch, link) = (words.next()?.parse().ok()?, words.next()?);
        // Brackets mark a migrating slot, which its owner lists once more without them.
        let slots = words.filter(|word| !word.starts_with('[')).filter_map(parse_range).collect();
        let node = parse_address(address, asked)?;
        let entry = Self { id, node, flags, primary_id, epoch, link, slots };
        (!entry.has_flag("noaddr") && !entry.has_flag("handshake")).then_some(entry)
    }

    fn has_flag(&self, name: &str) -> bool {
        self.flags.split(',').any(|flag| flag == name)
    }

    fn is_healthy(&self) -> bool {
        !self.has_flag("fail") && !self.has_flag("fail?") && self.link == "connected"
    }
}

/// `host:port@bus-port[,hostname]`. A node that has not met another has no host. An announced hostname is preferred,
/// because certificates contain it.
fn parse_address(address: &str, asked: &Node) -> Option<Node> {
    let (host_and_port, bus) = address.split_once('@')?;
    let (host, port) = host_and_port.rsplit_once(':')?;
    let hostname = bus.split(',').nth(1).filter(|name| !name.is_empty() && !name.contains('='));
    let host = hostname.or((!host.is_empty()).then_some(host)).unwrap_or(&asked.host);
    Some(Node { host: host.to_owned(), port: port.parse().ok()? })
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node { host: "127.0.0.1".to_owned(), port }
    }

    #[test]
    fn a_topology_is_parsed_from_cluster_nodes() {
        // From the documentation of CLUSTER NODES, with a migrating slot and a failed replica.
        let text = "\
07c3 127.0.0.1:30004@31004,host4 slave e7d1 0 1426238317239 4 connected
67ed 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922
2927 127.0.0.1:30003@31003 master - 0 1426238318243 3 connected 10923-16383
6ec2 127.0.0.1:30005@31005 slave 67ed 0 1426238316232 5 connected
824f 127.0.0.1:30006@31006 slave,fail 2927 0 1426238317741 6 disconnected
e7d1 :30001@31001 myself,master - 0 0 7 connected 0-5459 5460 [93-<-2927]
aaaa :0@0 master,noaddr - 0 0 9 disconnected
";
        let topology = ClusterTopology::parse(text, &node(1));
        assert_eq!(topology.epoch, 7);
        let primaries: Vec<_> = topology.shards.iter().map(|shard| shard.primary.port).collect();
        assert_eq!(primaries, [30_001, 30_002, 30_003]);
        assert_eq!(topology.shards[0].primary.host, "127.0.0.1", "the host that was asked");
        assert_eq!(topology.shards[0].replicas, [Node { host: "host4".to_owned(), port: 30_004 }]);
        assert_eq!(topology.shards[1].replicas, [node(30_005)]);
        assert!(topology.shards[2].replicas.is_empty());
        assert!(topology.shards[0].has(5460) && !topology.shards[0].has(5461));
        assert_eq!(topology.nodes().count(), 5);
    }

    #[test]
    fn an_invalid_text_has_no_shards() {
        for text in ["", "x", "a b c d e f g h", "id 1.2.3.4 master - 0 0 1 connected 0-1"] {
            let topology = ClusterTopology::parse(text, &node(1));
            assert_eq!(topology, ClusterTopology::default(), "{text}");
        }
    }
}
