//! Work on objects of a cluster.

use crate::peers;
use crate::support::folder::Folder;
use crate::support::testbed::Testbed;
use crate::table::{Table, time};

/// The number of objects.
const OBJECTS: usize = 1_000;

pub fn measure(testbed: &Testbed, table: &mut Table) {
    let work = [
        "plan of 1,000 unchanged ConfigMaps",
        "first plan of 1,000 ConfigMaps in a new namespace",
        "destroy of 1,000 ConfigMaps",
    ];
    if !work.iter().any(|work| table.selects(work)) {
        return;
    }
    let kubeconfig = testbed.facts.control_plane.kubeconfig.display();
    let folder = Folder::new(&format!(
        "[providers.kubernetes]\nkubeconfig = \"{kubeconfig}\"\n\n\
         [resource.kubernetes_object.namespace]\nmanifest = {{ apiVersion = \"v1\", kind = \"Namespace\", metadata = {{ name = \"bench\" }} }}\n\n\
         [resource.kubernetes_object.config]\nfor_each = \"${{range({OBJECTS})}}\"\n\
         manifest = {{ apiVersion = \"v1\", kind = \"ConfigMap\", metadata = {{ name = \"c${{each.key}}\", namespace = \"bench\" }}, data = {{ a = \"${{each.key}}\" }} }}\n",
    ));
    let plan = || folder.run(&["plan"]);
    let first_plan = time(|| assert!([0, 2].contains(&plan().code)));
    let apply = time(|| _ = folder.expect(0, &["apply", "--auto-approve"]));
    table.add(work[1], first_plan, "the apply of the same", apply);
    let list = || _ = testbed.kubectl(&["get", "--raw", "/api/v1/namespaces/bench/configmaps"]);
    table.compare(work[0], || _ = plan().says("No changes"), "one list, by kubectl", list);
    peers::look_at_objects(table, &folder, testbed, OBJECTS);
    // The controller of namespaces waits 5 s before it deletes a namespace, also an empty one.
    let objects = ["destroy", "--auto-approve", "--target", "kubernetes_object.config"];
    let destroy = time(|| _ = folder.expect(0, &objects));
    table.add(work[2], destroy, "the apply of the same", apply);
    folder.expect(0, &["destroy", "--auto-approve"]);
}
