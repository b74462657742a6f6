//! A table of slots with generations: names that outlive what they name.
//!
//! A name (slot and generation) given to the kernel or to a shard comes back later, perhaps after its slot was
//! freed and taken again. The generation tells: it is raised whenever a slot is freed, so an old name finds nothing.
//! 32 bits of it wrap after four thousand million uses of one slot, far more than any name is ever late.

/// The name of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// Its place in the table.
    pub slot: u32,
    /// Which of the slot's entries.
    pub generation: u32,
}

struct Slot<T> {
    generation: u32,
    entry: Option<T>,
}

/// Entries by name; grows up to its bound and keeps the memory.
pub struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    capacity: u32,
}

impl<T> Table<T> {
    /// An empty table for at most `capacity` entries.
    pub fn new(capacity: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), capacity }
    }

    /// At most so many entries from now on; those that are there stay.
    pub fn resize(&mut self, capacity: u32) {
        self.capacity = capacity;
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no further entry fits.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity as usize
    }

    /// Adds an entry; gives it back when the table is full.
    pub fn insert(&mut self, entry: T) -> Result<Name, T> {
        if self.is_full() {
            return Err(entry);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.entry = Some(entry);
        Ok(Name { slot, generation: place.generation })
    }

    /// The entry of a name, unless it is gone.
    pub fn get_mut(&mut self, name: Name) -> Option<&mut T> {
        let place = self.slots.get_mut(name.slot as usize)?;
        if place.generation == name.generation { place.entry.as_mut() } else { None }
    }

    /// Takes the entry of a name out, unless it is gone.
    pub fn remove(&mut self, name: Name) -> Option<T> {
        let place = self.slots.get_mut(name.slot as usize).filter(|place| place.generation == name.generation)?;
        let entry = place.entry.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(name.slot);
        Some(entry)
    }

    /// Every entry with its name.
    pub fn iter(&self) -> impl Iterator<Item = (Name, &T)> {
        self.slots
            .iter()
            .zip(0..)
            .filter_map(|(place, slot)| Some((Name { slot, generation: place.generation }, place.entry.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_name_finds_nothing() {
        let mut table = Table::new(2);
        let first = table.insert('a').unwrap();
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None);
        let second = table.insert('b').unwrap();
        assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.get_mut(second), Some(&mut 'b'));
        assert_eq!(table.iter().collect::<Vec<_>>(), [(second, &'b')]);
    }

    #[test]
    fn a_full_table_gives_the_entry_back() {
        let mut table = Table::new(1);
        assert!(table.is_empty());
        table.insert(1).unwrap();
        assert!(table.is_full());
        assert_eq!(table.insert(2), Err(2));
        assert_eq!(table.len(), 1);
        table.resize(2);
        let second = table.insert(2).unwrap();
        table.resize(1);
        assert!(table.is_full());
        assert_eq!((table.remove(second), table.insert(3)), (Some(2), Err(3)));
    }
}
